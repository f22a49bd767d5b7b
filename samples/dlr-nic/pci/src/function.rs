// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a PCI function is made of.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dlr_core::DirtySink;

use crate::{
    config::{ConfigSpace, WriteEffect},
    dma::{DmaSpace, FileCache},
    irq::Msix,
};

/// What reset a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// The FLR bit of the PCIe capability was written.
    FunctionLevel,
    /// The client asked for a device reset (`VFIO_USER_DEVICE_RESET`).
    Device,
    /// The client went away: its memory and interrupts go after this.
    ClientGone,
}

/// A function's own part: what is behind its BARs.
///
/// Called from the thread of the function's socket, one call at a time.
pub trait PciFunction: Send + Sync {
    /// Fills `data` from `offset` of `bar`. The access lies inside the BAR; a guest
    /// chooses its size and alignment. What nothing answers reads as zero.
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]);

    /// Takes a write to `offset` of `bar`, as [`PciFunction::bar_read`]. May be posted:
    /// nobody waits for it.
    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]);

    /// Back to power-on state; no DMA is in flight when this returns. Configuration space
    /// has been reset already.
    fn reset(&self, kind: ResetKind);

    /// The Bus Master bit of the command register changed. Without it the function may
    /// not start DMA and raises no interrupt.
    fn bus_master(&self, _enabled: bool) {}

    /// A capability of the function itself was read at `offset` of configuration space;
    /// `data` holds what the configuration space says and may be changed.
    fn config_read(&self, _offset: u16, _data: &mut [u8]) {}

    /// Configuration space was written at `offset`; writable bits have been stored.
    fn config_write(&self, _offset: u16, _data: &[u8]) {}
}

/// Everything of a PCI function but its BARs: it exists before them.
#[derive(Debug)]
pub struct Port {
    name: String,
    config: Mutex<ConfigSpace>,
    memory: Arc<DmaSpace>,
    interrupt: Arc<Msix>,
}

impl Port {
    /// A function called `name` in the log. Each of its DMA writes is announced to `sink`;
    /// mappings of host memory are shared by all functions with the same `files`.
    pub fn new(
        name: impl Into<String>,
        config: ConfigSpace,
        files: Arc<FileCache>,
        sink: Option<Arc<dyn DirtySink>>,
    ) -> Arc<Self> {
        let vectors = config.vectors();
        Arc::new(Self {
            name: name.into(),
            config: Mutex::new(config),
            memory: Arc::new(DmaSpace::new(files, sink)),
            interrupt: Arc::new(Msix::new(vectors)),
        })
    }

    /// Name in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Host memory as this function reaches it.
    pub fn memory(&self) -> Arc<DmaSpace> {
        Arc::clone(&self.memory)
    }

    /// MSI-X of this function.
    pub fn interrupt(&self) -> Arc<Msix> {
        Arc::clone(&self.interrupt)
    }

    /// Size of a BAR in bytes, 0 for one that does not exist.
    pub(crate) fn bar_size(&self, bar: u8) -> u64 {
        self.config().bar_size(bar)
    }

    pub(crate) fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads configuration space.
    pub(crate) fn config_read(&self, function: &dyn PciFunction, offset: u16, data: &mut [u8]) {
        self.config().read(offset, data);
        function.config_read(offset, data);
    }

    /// Writes configuration space and does what the write asks for.
    pub(crate) fn config_write(&self, function: &dyn PciFunction, offset: u16, data: &[u8]) {
        let WriteEffect { flr, bus_master } = self.config().write(offset, data);
        if flr {
            self.reset(function, ResetKind::FunctionLevel);
            return;
        }
        if let Some(enabled) = bus_master {
            function.bus_master(enabled);
        }
        function.config_write(offset, data);
    }

    /// Resets configuration space, then the function.
    pub(crate) fn reset(&self, function: &dyn PciFunction, kind: ResetKind) {
        log::debug!("{}: reset ({kind:?})", self.name);
        self.config().reset();
        function.bus_master(false);
        self.interrupt.clear_pending();
        function.reset(kind);
    }
}
