// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a PCI function is made of.

use std::{
    fmt::Display,
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
    time::Duration,
};

use dlr_core::{AttestWords, DirtySink};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    config::{ConfigSpace, WriteEffect},
    dma::{DmaSpace, FileCache},
    irq::Msix,
    presence::Presence,
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

    /// DMA and interrupts were allowed or forbidden: by the Bus Master bit of the command register,
    /// or by the power state.
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
    presence: Presence,
    complaints: AtomicU64,
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
            presence: Presence::default(),
            complaints: AtomicU64::new(0),
        })
    }

    /// From now on each function-level reset takes so long: the function is in power-on state at
    /// once, but reads as ones and takes no writes until the time is up.
    pub fn set_reset_time(&self, time: Duration) {
        self.presence.set_reset_time(time);
    }

    /// What a VF suffers when its PF clears VF Enable: `function` is reset, and this one reads as
    /// ones and takes no writes until [`Port::come_back`] or until another client connects.
    pub fn vanish(&self, function: &dyn PciFunction) {
        self.presence.go();
        self.reset(function, ResetKind::FunctionLevel);
    }

    /// The function is there again, in power-on state.
    pub fn come_back(&self) {
        self.presence.come_back();
    }

    /// [`Port::vanish`] was called last.
    pub fn is_gone(&self) -> bool {
        self.presence.is_gone()
    }

    /// No access is answered.
    pub(crate) fn is_absent(&self) -> bool {
        self.presence.is_absent()
    }

    /// Says in the log what the client has done wrong: the first time, the second, the fourth and so on,
    /// because a client can do it over and over, and the log need not grow with it. Returns whether it
    /// was said.
    pub(crate) fn complain(&self, what: &dyn Display) -> bool {
        let times = self.complaints.fetch_add(1, Ordering::Relaxed) + 1;
        let said = times.is_power_of_two();
        if said {
            log::warn!(
                "{}: {what} (the client's mistake number {times})",
                self.name
            );
        }
        said
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
        self.config.lock()
    }

    /// Reads configuration space.
    pub(crate) fn config_read(&self, function: &dyn PciFunction, offset: u16, data: &mut [u8]) {
        if self.is_absent() {
            data.fill(0xff);
            return;
        }
        self.config().read(offset, data);
        function.config_read(offset, data);
    }

    /// Writes configuration space and does what the write asks for.
    pub(crate) fn config_write(&self, function: &dyn PciFunction, offset: u16, data: &[u8]) {
        if self.is_absent() {
            return;
        }
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

    /// Reads from `offset` of `bar`. Whoever emulates the vector table answers reads of it itself.
    pub(crate) fn bar_read(
        &self,
        function: &dyn PciFunction,
        bar: u8,
        offset: u64,
        data: &mut [u8],
    ) {
        // In D3hot a function answers no memory requests: the host reads ones.
        if !self.config().powered() || self.is_absent() {
            data.fill(0xff);
            return;
        }
        let msix = self.config().msix().filter(|m| m.bar == bar);
        match msix {
            Some(layout) => {
                if let Some(at) = offset.checked_sub(layout.pba) {
                    self.interrupt().read_pending(at, data);
                }
            }
            None => function.bar_read(bar, offset, data),
        }
    }

    /// Writes to `offset` of `bar`; the vector table is not here, and pending bits are read-only.
    pub(crate) fn bar_write(&self, function: &dyn PciFunction, bar: u8, offset: u64, data: &[u8]) {
        let is_msix = self.config().msix().is_some_and(|m| m.bar == bar);
        if self.config().powered() && !is_msix && !self.is_absent() {
            function.bar_write(bar, offset, data);
        }
    }

    /// Resets configuration space, then the function.
    pub(crate) fn reset(&self, function: &dyn PciFunction, kind: ResetKind) {
        log::debug!("{}: reset ({kind:?})", self.name);
        match kind {
            ResetKind::FunctionLevel => self.presence.reset(),
            ResetKind::Device => {}
            ResetKind::ClientGone => self.presence.come_back(),
        }
        self.config().reset();
        function.bus_master(false);
        self.interrupt.clear_pending();
        function.reset(kind);
    }
}

impl AttestWords for Port {
    fn set_nonce(&self, nonce: u64) {
        self.config().set_nonce(nonce);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_fill_the_log() {
        let port = Port::new("test", ConfigSpace::management(1, 4), Arc::default(), None);
        let said = (0..1_000_000).filter(|n| port.complain(n)).count();
        assert_eq!(said, 20);
    }
}
