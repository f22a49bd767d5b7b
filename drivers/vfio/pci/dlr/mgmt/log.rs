// SPDX-License-Identifier: GPL-2.0

//! The log ring of a data function, and its registers.

use super::hardware::Guard;
use crate::{
    proto::{
        log::LogWord,
        regs, //
    },
    vfio::dirty::ring::memory::LogRing, //
};
use kernel::{
    io::Io,
    prelude::*, //
};

/// A log ring of the contract.
pub(super) type Ring = LogRing<LogWord>;

/// The log of a data function. It keeps the ring until the device is known not to write it.
pub(super) struct Log {
    pub(super) ring: Option<Ring>,
    /// LOG_START has succeeded, and the log has not ended since.
    pub(super) active: bool,
}

impl Log {
    /// Creates a log without a ring.
    pub(super) fn new() -> Self {
        Self {
            ring: None,
            active: false,
        }
    }

    /// Returns the ring of an active log.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the log is not active.
    pub(super) fn active(&mut self) -> Result<&mut Ring> {
        match &mut self.ring {
            Some(ring) if self.active => Ok(ring),
            _ => Err(EINVAL),
        }
    }
}

/// Reads LOG_POSTED, in one access to the device. Does not sleep.
///
/// # Errors
///
/// `EIO` if the log is not active or has failed, or the device is gone.
pub(super) fn posted(hw: &Guard<'_>, function: u16) -> Result<u32> {
    let register: regs::LOG_POSTED = hw.bar().try_read(regs::of_function(function.into())?)?;
    register.posted()
}

/// Writes LOG_HEAD: returns the slots before `head` to the device.
pub(super) fn give_back(hw: &Guard<'_>, function: u16, head: u32) {
    // The register is in the BAR for every function that the device has, so the write cannot fail.
    let _ = regs::of_function(function.into())
        .and_then(|place| hw.bar().try_write(place, regs::LOG_HEAD::from_raw(head)));
}
