// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory of the guest and of the ring, and the interrupt.

use std::sync::{
    atomic::{AtomicBool, Ordering::Relaxed},
    Arc,
};

use dlr_core::{DmaFault, DmaMemory, Interrupt};
use parking_lot::Mutex;

use crate::stops::{stop, Stop};

/// DMA address of the ring.
pub(crate) const RING: u64 = 0x1000;

/// The words of a ring.
pub(crate) struct RingMemory {
    words: Mutex<Vec<u64>>,
    is_gone: AtomicBool,
}

impl RingMemory {
    /// Zeroes.
    pub(crate) fn new(words: usize) -> Arc<Self> {
        Arc::new(Self {
            words: Mutex::new(vec![0; words]),
            is_gone: AtomicBool::new(false),
        })
    }

    pub(crate) fn word(&self, index: usize) -> Option<u64> {
        self.words.lock().get(index).copied()
    }

    /// From now on the NIC cannot write it.
    pub(crate) fn take_away(&self) {
        self.is_gone.store(true, Relaxed);
    }
}

impl DmaMemory for RingMemory {
    fn read(&self, iova: u64, buf: &mut [u8]) -> Result<(), DmaFault> {
        let len = buf.len() as u64;
        Err(DmaFault { iova, len })
    }

    fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        let len = data.len() as u64;
        Err(DmaFault { iova, len })
    }

    fn write_u64(&self, iova: u64, value: u64) -> Result<(), DmaFault> {
        let fault = DmaFault { iova, len: 8 };
        let offset = iova.checked_sub(RING).ok_or(fault)?;
        if self.is_gone.load(Relaxed) {
            return Err(fault);
        }
        *self
            .words
            .lock()
            .get_mut((offset / 8) as usize)
            .ok_or(fault)? = value;
        stop(Stop::Word(value));
        Ok(())
    }
}

/// The vector of the log: raised, and not yet taken by the thread of the interrupt.
#[derive(Default)]
pub(crate) struct Vector(AtomicBool);

impl Vector {
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(crate) fn take(&self) {
        self.0.store(false, Relaxed);
    }
}

impl Interrupt for Vector {
    fn trigger(&self, _: u16) {
        self.0.store(true, Relaxed);
    }
}
