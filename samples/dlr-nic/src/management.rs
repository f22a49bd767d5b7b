// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function behind its BAR.

use std::sync::{
    atomic::{AtomicBool, Ordering},
    Arc, Mutex, MutexGuard, PoisonError,
};

use dlr_abi::abi;
use dlr_core::{DmaFault, DmaMemory};
use dlr_mgmt::ManagementFunction;
use dlr_pci::{DmaSpace, PciFunction, Port, ResetKind};

/// Memory of the management function: unreachable while Bus Master is off.
#[derive(Debug)]
pub(crate) struct MasterGate {
    memory: Arc<DmaSpace>,
    open: AtomicBool,
}

impl MasterGate {
    /// Closed.
    pub(crate) fn new(memory: Arc<DmaSpace>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            open: AtomicBool::new(false),
        })
    }

    fn pass(&self, iova: u64, len: usize) -> Result<&DmaSpace, DmaFault> {
        if self.open.load(Ordering::Acquire) {
            Ok(&self.memory)
        } else {
            Err(DmaFault {
                iova,
                len: len as u64,
            })
        }
    }
}

impl DmaMemory for MasterGate {
    fn read(&self, iova: u64, buf: &mut [u8]) -> Result<(), DmaFault> {
        self.pass(iova, buf.len())?.read(iova, buf)
    }

    fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        self.pass(iova, data.len())?.write(iova, data)
    }

    fn write_u64(&self, iova: u64, value: u64) -> Result<(), DmaFault> {
        self.pass(iova, 8)?.write_u64(iova, value)
    }
}

/// The management function as PCI sees it.
pub(crate) struct ManagementPci {
    /// What it is.
    pub(crate) function: Arc<ManagementFunction>,
    /// Its way to memory.
    pub(crate) gate: Arc<MasterGate>,
    /// Its VFs, if it is a PF.
    pub(crate) vfs: Arc<Vfs>,
}

/// The data functions of a NIC whose management function is a PF (`--sriov-like`); none of
/// another's.
#[derive(Default)]
pub(crate) struct Vfs(Mutex<Vec<Vf>>);

/// A VF: what every function has, and what it is.
type Vf = (Arc<Port>, Arc<dyn PciFunction>);

impl Vfs {
    /// Another VF.
    pub(crate) fn add(&self, port: Arc<Port>, function: Arc<dyn PciFunction>) {
        self.lock().push((port, function));
    }

    /// VF Enable was cleared.
    pub(crate) fn vanish(&self) {
        for (port, function) in self.lock().iter() {
            log::warn!("{}: gone with the reset of its PF", port.name());
            port.vanish(function.as_ref());
        }
    }

    /// VF Enable was set: those that were gone are there again.
    pub(crate) fn come_back(&self) {
        for (port, _) in self.lock().iter() {
            port.come_back();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciFunction for ManagementPci {
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if u32::from(bar) != abi::DLR_MF_BAR || offset % 4 != 0 || data.len() % 4 != 0 {
            log::warn!(
                "mf: read of {} bytes at {offset:#x} is not 32-bit",
                data.len()
            );
            return;
        }
        for (word, at) in data.chunks_exact_mut(4).zip((offset..).step_by(4)) {
            word.copy_from_slice(&self.function.read32(at as u32).to_le_bytes());
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        if u32::from(bar) != abi::DLR_MF_BAR || offset % 4 != 0 || data.len() % 4 != 0 {
            log::warn!(
                "mf: write of {} bytes at {offset:#x} is not 32-bit",
                data.len()
            );
            return;
        }
        for (word, at) in data.chunks_exact(4).zip((offset..).step_by(4)) {
            if let Ok(word) = word.try_into() {
                self.function.write32(at as u32, u32::from_le_bytes(word));
            }
        }
    }

    fn reset(&self, kind: ResetKind) {
        self.function.reset();
        if kind == ResetKind::FunctionLevel {
            self.function.count_flr();
            self.vfs.vanish();
        }
    }

    fn bus_master(&self, enabled: bool) {
        self.gate.open.store(enabled, Ordering::Release);
    }
}
