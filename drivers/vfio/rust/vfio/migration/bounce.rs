// SPDX-License-Identifier: GPL-2.0

//! The buffer through which device state is copied to the user.

use super::save::StreamCheck;
use crate::ext::gfp::USER;
use kernel::prelude::*;

/// Size of the buffer in bytes.
const BOUNCE: usize = 64 << 10;

/// The data of the thread that reads, under the lock `reader` of its session.
pub(super) struct Bounce<C> {
    /// The buffer.
    pub(super) bytes: KVVec<u8>,
    /// The check of the stream, at the user's position.
    pub(super) check: C,
}

impl<C: StreamCheck> Bounce<C> {
    /// Allocates the buffer. `check` is at the beginning of the stream.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, charged to the caller.
    pub(super) fn new(check: C) -> Result<Self> {
        Ok(Self {
            bytes: KVVec::zeroed(BOUNCE, USER)?,
            check,
        })
    }

    /// Frees the buffer after the session has ended.
    pub(super) fn forget_memory(&mut self) {
        self.bytes = KVVec::new();
    }
}
