// SPDX-License-Identifier: GPL-2.0

//! Hardware in plain memory, for tests of the queue: the test executes the commands.

use super::{
    device::Access,
    ring::{
        phase_of,
        Words, //
    },
};
use crate::ext::testing::device_of_test;
use kernel::{
    device::Device,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    },
};

/// Log2 of the number of slots of the rings.
pub(super) const ORDER: u32 = 4;

/// A ring with entries of one word.
pub(super) struct Ring([Atomic<u64>; 1 << ORDER]);

impl Ring {
    fn new() -> Self {
        Self([const { Atomic::new(0) }; 1 << ORDER])
    }
}

impl Words for Ring {
    fn get(&self, index: usize) -> Option<u64> {
        Some(self.0.get(index)?.load(Relaxed))
    }

    fn set(&self, index: usize, value: u64) -> bool {
        self.0
            .get(index)
            .map(|word| word.store(value, Relaxed))
            .is_some()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The hardware. Registers act at once, and commands end when the test says so.
pub(super) struct Board {
    /// For messages.
    device: ARef<Device>,
    pub(super) sq: Ring,
    pub(super) cq: Ring,
    pub(super) ready: Atomic<bool>,
    /// The device stays ready, whatever the driver asks of it.
    pub(super) deaf: Atomic<bool>,
    pub(super) tail: Atomic<u32>,
    pub(super) fetched: Atomic<u32>,
    pub(super) posted: Atomic<u32>,
}

impl Board {
    /// Fetches the next command. Returns its id and the number of its function.
    pub(super) fn fetch(&self) -> Option<(u16, u16)> {
        let at = self.fetched.load(Relaxed);
        if at == self.tail.load(Relaxed) {
            return None;
        }
        self.fetched.store(at + 1, Relaxed);
        let word = self.sq.get(at as usize % self.sq.len())?;
        Some((word as u16, (word >> 16) as u16))
    }

    /// Completes command `id` with this answer; 0 is success.
    pub(super) fn complete(&self, id: u16, answer: u16) {
        let at = self.posted.load(Relaxed);
        let phase = u64::from(phase_of(at, ORDER)) << 63;
        let fetched = u64::from(self.fetched.load(Relaxed) as u16) << 16;
        let word = phase | u64::from(answer) << 32 | fetched | u64::from(id);
        self.cq.set(at as usize % self.cq.len(), word);
        self.posted.store(at + 1, Relaxed);
    }
}

/// Access to a [`Board`].
pub(super) struct Slot {
    pub(super) board: Board,
    paused: Atomic<bool>,
}

impl Slot {
    /// Creates the hardware. `name` is that of a device which exists until the end of the test.
    pub(super) fn new(name: &'static CStr) -> Result<Arc<Self>> {
        let slot = Self {
            board: Board {
                device: device_of_test(name)?,
                sq: Ring::new(),
                cq: Ring::new(),
                ready: Atomic::new(false),
                deaf: Atomic::new(false),
                tail: Atomic::new(0),
                fetched: Atomic::new(0),
                posted: Atomic::new(0),
            },
            paused: Atomic::new(false),
        };
        Ok(Arc::new(slot, GFP_KERNEL)?)
    }
}

impl Access for Slot {
    type Hardware = Board;
    type Guard<'a> = &'a Board;

    fn enter(&self) -> Option<&Board> {
        (!self.paused.load(Relaxed)).then_some(&self.board)
    }

    fn enter_in_pause(&self) -> Option<&Board> {
        Some(&self.board)
    }

    fn pause(&self) -> Option<&Board> {
        (!self.paused.xchg(true, Full)).then_some(&self.board)
    }

    fn unpause(&self) {
        self.paused.store(false, Relaxed);
    }

    fn revoke_after(&self, last: impl FnOnce(&Board)) {
        self.paused.store(true, Relaxed);
        last(&self.board);
    }

    fn device(hw: &Board) -> &Device {
        &hw.device
    }
}
