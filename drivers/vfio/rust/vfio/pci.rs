// SPDX-License-Identifier: GPL-2.0

//! What a variant driver implements, and the PCI driver that is made of it.

use super::{
    config_space::ConfigRange,
    dma_logging,
    id::IdTable,
    migration, //
};
use core::marker::PhantomData;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

/// What one device turned out to be able to do. Fixed before the device becomes visible.
#[derive(Clone, Copy, Default)]
pub(crate) struct Capabilities {
    /// Migration, with the optional parts of the state machine; `None`: not migratable.
    pub(crate) migration: Option<migration::Flags>,
    /// Whether DMA writes can be logged.
    pub(crate) dma_logging: bool,
}

/// How far a PCI channel is gone, see Documentation/PCI/pci-error-recovery.rst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChannelState {
    /// I/O works.
    Normal,
    /// I/O is blocked, the function will be reset.
    Frozen,
    /// The function is lost for good.
    PermanentFailure,
}

/// A vfio-pci variant driver. `Self` is the registration data: one value per bound device.
pub(crate) trait Operations: Sized + Send + Sync + 'static {
    /// Lives from the first open to the last close. Use `()` when there is nothing.
    type OpenData: Send + Sync + 'static;

    /// The functions to bind to, by `driver_override` only.
    const ID_TABLE: IdTable;

    /// Name of the VFIO driver, as users see it in the group and in sysfs.
    const NAME: &'static CStr;

    /// `Some(migration::Ops::new())` for a type that implements [`migration::Migration`].
    const MIGRATION: Option<migration::Ops<Self>> = None;

    /// `Some(dma_logging::Ops::new())` for a type that implements [`dma_logging::DmaLogging`].
    const DMA_LOGGING: Option<dma_logging::Ops<Self>> = None;

    /// Makes the registration data, in probe and before any user can see the device.
    ///
    /// # Errors
    ///
    /// Any; the device is then not bound.
    fn new(pdev: &pci::Device<Bound>) -> impl PinInit<Self, Error>;

    /// What this device can do. Asked once, directly after [`Self::new`].
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Parts of configuration space that users read as zeros: what identifies this very device. The
    /// ranges are ascending and do not overlap.
    fn hidden_config(&self) -> &[ConfigRange] {
        &[]
    }

    /// The first user opens the device. It has been reset and enabled, the BARs are mapped.
    ///
    /// # Errors
    ///
    /// Any; the open fails with it.
    fn open(this: Pin<&Self>, pdev: &pci::Device<Bound>) -> impl PinInit<Self::OpenData, Error>;

    /// The last user closed the device. Logging was stopped and the migration state torn down before
    /// this call. `open` is dropped after it.
    fn close(this: Pin<&Self>, pdev: &pci::Device<Bound>, open: Pin<&Self::OpenData>);

    /// The driver is being unbound; users are gone and none can come any more. Last chance to let go of
    /// what belongs to other devices.
    fn unbind(this: Pin<&Self>, pdev: &pci::Device<Bound>) {
        let _ = (this, pdev);
    }

    /// The PCI channel failed. Only set flags and wake sleepers: the caller may hold any lock, the
    /// hardware may not answer (contract S17). The VFIO core tells the user.
    fn error_detected(&self, state: ChannelState) {
        let _ = state;
    }

    /// The function is about to be reset. The caller may hold any lock; do not wait for users.
    fn reset_prepare(&self) {}

    /// The function was reset. The caller may hold any lock (contract S15). What belongs to the
    /// migration state goes into [`Migration::reset`](migration::Migration::reset), which is run after
    /// this, now or as soon as the state lock is released.
    fn reset_done(&self) {}
}

/// Registers the driver of `T` with the PCI core, as `kernel::driver::Registration<Adapter<T>>`.
pub(crate) struct Adapter<T: Operations>(PhantomData<T>);
