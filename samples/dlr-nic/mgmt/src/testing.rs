// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Stand-ins for host memory, interrupts and a data function.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc,
};

use dlr_core::{AttestWords, DataFunction, DmaFault, DmaMemory, FnState, Interrupt, LoadError};
use parking_lot::Mutex;

/// Memory from address 0 on; everything behind it faults.
pub(crate) struct TestMemory(Mutex<Vec<u8>>);

impl TestMemory {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![0; len])))
    }

    pub(crate) fn u64(&self, at: u64) -> u64 {
        let mut b = [0; 8];
        self.read(at, &mut b).unwrap();
        u64::from_le_bytes(b)
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.read(at, &mut b).unwrap();
        b
    }
}

impl DmaMemory for TestMemory {
    fn read(&self, iova: u64, buf: &mut [u8]) -> Result<(), DmaFault> {
        let len = buf.len();
        let fault = DmaFault {
            iova,
            len: len as u64,
        };
        let memory = self.0.lock();
        let end = (iova as usize).checked_add(len).ok_or(fault)?;
        buf.copy_from_slice(memory.get(iova as usize..end).ok_or(fault)?);
        Ok(())
    }

    fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        let fault = DmaFault {
            iova,
            len: data.len() as u64,
        };
        let mut memory = self.0.lock();
        let end = (iova as usize).checked_add(data.len()).ok_or(fault)?;
        memory
            .get_mut(iova as usize..end)
            .ok_or(fault)?
            .copy_from_slice(data);
        Ok(())
    }

    fn write_u64(&self, iova: u64, value: u64) -> Result<(), DmaFault> {
        self.write(iova, &value.to_le_bytes())
    }
}

/// Counts interrupts per vector.
#[derive(Default)]
pub(crate) struct TestInterrupt(Mutex<Vec<u32>>);

impl TestInterrupt {
    pub(crate) fn count(&self, vector: u16) -> u32 {
        self.0.lock().get(vector as usize).copied().unwrap_or(0)
    }
}

impl Interrupt for TestInterrupt {
    fn trigger(&self, vector: u16) {
        let mut counts = self.0.lock();
        if counts.len() <= vector as usize {
            counts.resize(vector as usize + 1, 0);
        }
        counts[vector as usize] += 1;
    }
}

/// The words of a data function's configuration space.
#[derive(Default)]
pub(crate) struct TestWords(AtomicU64);

impl TestWords {
    pub(crate) fn nonce(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl AttestWords for TestWords {
    fn set_nonce(&self, nonce: u64) {
        self.0.store(nonce, Ordering::Relaxed);
    }
}

/// A data function whose state is a byte string.
pub(crate) struct TestFunction {
    pub(crate) state: Mutex<FnState>,
    pub(crate) image: Mutex<Vec<u8>>,
    pub(crate) resets: AtomicU64,
    pub(crate) rooms: AtomicU64,
    /// Called at the end of a load, before it is reported.
    pub(crate) after_load: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl TestFunction {
    pub(crate) fn new(image: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(FnState::Running),
            image: Mutex::new(image.to_vec()),
            resets: AtomicU64::new(0),
            rooms: AtomicU64::new(0),
            after_load: Mutex::new(None),
        })
    }
}

impl DataFunction for TestFunction {
    fn state(&self) -> FnState {
        *self.state.lock()
    }
    fn suspend(&self, to: FnState) {
        *self.state.lock() = to;
    }
    fn resume(&self, to: FnState) {
        *self.state.lock() = to;
    }
    fn quiesced(&self, f: &mut dyn FnMut()) {
        f();
    }
    fn room(&self) {
        self.rooms.fetch_add(1, Ordering::Relaxed);
    }
    fn save(&self) -> Vec<u8> {
        self.image.lock().clone()
    }
    fn load(&self, state: &[u8]) -> Result<(), LoadError> {
        let hook = self.after_load.lock().take();
        if state.first() == Some(&0xee) {
            if let Some(hook) = hook {
                hook();
            }
            return Err(LoadError::Corrupt("test".into()));
        }
        *self.image.lock() = state.to_vec();
        if let Some(hook) = hook {
            hook();
        }
        Ok(())
    }
    fn reset(&self) {
        self.image.lock().clear();
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
    fn stats_json(&self) -> String {
        "{}".into()
    }
}
