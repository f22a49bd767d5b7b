// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Interrupts of the two functions: nobody sleeps here.

use dlr_core::Interrupt;

pub(crate) struct NoInterrupt;

impl Interrupt for NoInterrupt {
    fn trigger(&self, _vector: u16) {}
}
