// SPDX-License-Identifier: GPL-2.0

//! The trait of a vfio-pci variant driver.

use super::{
    bar::BarSet,
    call::{
        Described,
        Ioctl,
        Mmap,
        RegionInfo, //
    },
    config_space::ConfigRange,
    device,
    function::PciFunction,
    hooks::{
        LoggingOps,
        MigrationOps, //
    },
    id::IdTable,
    migration::state::Flags,
    region::{
        Read,
        Write, //
    },
};

use kernel::prelude::*;

/// A device of the driver `T`.
pub(super) type Device<T> = device::Device<T, <T as Operations>::OpenData>;

/// An open device of the driver `T`, as its callbacks get it; see [`device::OpenDevice`].
pub(crate) type OpenDevice<'a, T> = device::OpenDevice<'a, T, <T as Operations>::OpenData>;

/// Features of a device, fixed before it is registered.
#[derive(Clone, Copy, Default)]
pub(crate) struct Capabilities {
    /// The optional states of migration, or `None` if the device cannot migrate.
    pub(crate) migration: Option<Flags>,
    /// Whether the device can log DMA writes.
    pub(crate) dma_logging: bool,
}

/// A vfio-pci variant driver. `Self` is the registration data, of which each bound device has one.
///
/// # Examples
///
/// The least that a driver implements. The device can migrate. From `samples/vfio/bochs.rs`:
///
/// ```ignore
/// kernel::module_device_table!(
///     "pci",
///     DeviceId,
///     TABLE,
///     (),
///     [(DeviceId::new(0x1234, 0x1111), ())]
/// );
///
/// impl Operations for Bochs {
///     type OpenData = ();
///
///     const ID_TABLE: IdTable = IdTable::new(&TABLE);
///     const NAME: &'static CStr = c"bochs-vfio-pci";
///     const MIGRATION: Option<migration::Ops<Self>> = Some(migration::Ops::new().with_p2p());
///
///     fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
///         try_pin_init!(Self {
///             machine <- Machine::new(BochsEngine),
///         })
///     }
///
///     fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
///         Ok::<_, Error>(())
///     }
/// }
/// ```
///
/// A hook that sees the writes to some registers of a trapped BAR and forwards all others. From
/// `samples/vfio/edu.rs`:
///
/// ```ignore
///     fn trapped_bars(&self) -> BarSet {
///         BarSet::only(BAR)
///     }
///
///     fn write(dev: &OpenDevice<'_, Self>, write: Write<'_>) -> Result<usize> {
///         if !write.touches(BAR, transfer::REGISTERS) {
///             return write.forward();
///         }
///         // …
///         let register = write.take_register(&[4, 8])?;
///         // …
///         register.write_to(&bar)
///     }
/// ```
///
/// The module registers the driver by [`Adapter`](crate::vfio::Adapter).
pub(crate) trait Operations: Sized + Send + Sync + 'static {
    /// Data that exists from the first open to the last close, or `()`.
    type OpenData: Send + Sync + 'static;

    /// The ids of the functions to bind to, which match only with `driver_override`.
    const ID_TABLE: IdTable;

    /// The name of the VFIO driver (`vfio_device_ops.name`).
    const NAME: &'static CStr;

    /// `Some(migration::Ops::new())` for a type that implements
    /// [`Migration`](super::migration::Migration), with the optional states of its devices.
    const MIGRATION: Option<MigrationOps<Self>> = None;

    /// `Some(dma_logging::Ops::new())` for a type that implements
    /// [`DmaLogging`](super::dma_logging::DmaLogging).
    const DMA_LOGGING: Option<LoggingOps<Self>> = None;

    /// Creates the registration data, in probe and before users can see the device.
    ///
    /// # Errors
    ///
    /// Any error leaves the device unbound.
    fn new(pdev: PciFunction<'_>) -> impl PinInit<Self, Error>;

    /// Returns the features of the device. Called once, directly after [`Self::new`]. A driver
    /// implements this if its devices differ in features. By default each device has those of
    /// [`Self::MIGRATION`] and [`Self::DMA_LOGGING`].
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            migration: Self::MIGRATION.map(|ops| ops.flags),
            dma_logging: Self::DMA_LOGGING.is_some(),
        }
    }

    /// Returns the ranges of configuration space that the user reads as zeros and cannot write,
    /// such as an id of this particular device. The ranges are ascending and do not overlap.
    fn masked_config(&self) -> &[ConfigRange] {
        &[]
    }

    /// Returns the BARs that the user can access only through [`Self::read`] and [`Self::write`].
    /// They cannot be mapped or exported as dma-bufs, and the device offers no ioeventfds, by which
    /// vfio-pci-core would write to a BAR itself. Called once, after [`Self::new`].
    fn trapped_bars(&self) -> BarSet {
        BarSet::NONE
    }

    /// Called when the user reads a region. Several threads may call this and the other hooks at
    /// once. Returns the number of bytes read.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn read(dev: &OpenDevice<'_, Self>, read: Read<'_>) -> Result<usize> {
        let _ = dev;
        read.forward()
    }

    /// Called when the user writes a region. Returns the number of bytes written.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn write(dev: &OpenDevice<'_, Self>, write: Write<'_>) -> Result<usize> {
        let _ = dev;
        write.forward()
    }

    /// Called for an ioctl other than those for features and region infos.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn ioctl(dev: &OpenDevice<'_, Self>, ioctl: Ioctl<'_>) -> Result<c_long> {
        let _ = dev;
        ioctl.forward()
    }

    /// Called when the user maps a region that is not trapped, with the user's `mmap_lock` held for
    /// writing: it must not access user memory.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn mmap(dev: &OpenDevice<'_, Self>, mmap: Mmap<'_>) -> Result {
        let _ = dev;
        mmap.forward()
    }

    /// Called when the user asks for the description of a region.
    ///
    /// # Errors
    ///
    /// Any error is returned to the user.
    fn region_info<'a>(dev: &OpenDevice<'_, Self>, info: RegionInfo<'a>) -> Result<Described<'a>> {
        let _ = dev;
        info.forward()
    }

    /// Called when the first user opens the device, after vfio-pci-core has enabled and reset it.
    ///
    /// # Errors
    ///
    /// The open fails with the error.
    fn open(this: Pin<&Self>, pdev: PciFunction<'_>) -> impl PinInit<Self::OpenData, Error>;

    /// Called first when the last user closes the device. After this the layer stops logging, ends
    /// the migration sessions and calls [`Self::close`]. All of it runs with `dev_set->lock` held,
    /// for which other tasks wait uninterruptibly.
    fn closing(this: Pin<&Self>) {
        let _ = this;
    }

    /// Called when the last user closes the device, after logging was stopped and the migration
    /// sessions ended. `open` is dropped after this. Does nothing unless a driver implements it.
    fn close(this: Pin<&Self>, pdev: PciFunction<'_>, open: Pin<&Self::OpenData>) {
        let _ = (this, pdev, open);
    }

    /// Called when the driver is being unbound and the device has no user any more. Release here
    /// what belongs to other devices. It is also called if registering the device fails in probe.
    fn unbind(this: Pin<&Self>, pdev: PciFunction<'_>) {
        let _ = (this, pdev);
    }

    /// Called before the function is reset. The caller may hold any lock, so it must not wait for
    /// users.
    fn reset_prepare(&self) {}

    /// Called after the function was reset. The caller may hold any lock (contract S15). The
    /// migration state is reset by [`Migration::reset`](super::migration::Migration::reset), which
    /// runs after this, at once or when the holder of the state lock releases it.
    fn reset_done(&self) {}
}
