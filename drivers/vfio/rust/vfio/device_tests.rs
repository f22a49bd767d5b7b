// SPDX-License-Identifier: GPL-2.0

//! Tests of the close and the end of a device and of its trapped BARs. They use both `device` and
//! `ops` and so are in neither file.

use kernel::prelude::*;

#[kunit_tests(vfio_device)]
mod tests {
    use super::super::{
        bar::BarSet,
        dma_logging::{
            DmaLogging,
            Ops, //
        },
        function::PciFunction,
        id::{
            IdTable,
            NO_DEVICES, //
        },
        iova_bitmap::{
            IovaBitmap,
            IovaRange, //
        },
        link::Link,
        ops::DeviceOps,
        pci::{Device, OpenDevice, Operations},
        region_ops::trap, //
    };
    use crate::bindings;
    use core::{
        mem::{
            ManuallyDrop,
            MaybeUninit, //
        },
        ptr::NonNull, //
    };
    use kernel::{
        prelude::*,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
    };

    /// A driver whose registration data counts how often it is dropped.
    struct Counted(Arc<Atomic<u32>>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    impl Operations for Counted {
        type OpenData = ();
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";

        fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            Err::<Self, _>(ENODEV)
        }

        fn trapped_bars(&self) -> BarSet {
            BarSet::only(2)
        }

        fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            Ok::<_, Error>(())
        }
    }

    /// VFIO may call `release` after unbind. So it must be a function of vfio-pci-core, and the
    /// driver's data must have been dropped at unbind.
    #[test]
    fn s4_nothing_of_the_driver_is_left_to_release() -> Result {
        let release = DeviceOps::<Counted>::OPS.release.ok_or(EINVAL)?;
        let of_the_core: unsafe extern "C" fn(*mut bindings::vfio_device) =
            bindings::vfio_pci_core_release_dev;
        assert!(core::ptr::fn_addr_eq(release, of_the_core));

        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let mut memory = KBox::<MaybeUninit<Device<Counted>>>::new_uninit(GFP_KERNEL)?;
        let device = memory.as_mut_ptr().cast::<Device<Counted>>();
        // SAFETY: The core device is never accessed.
        let link = unsafe { Link::new(NonNull::new(device.cast()).ok_or(EINVAL)?)? };
        // SAFETY: The fields are valid for writes; `end` accesses no others.
        unsafe {
            (&raw mut (*device).link).write(ManuallyDrop::new(link.clone()));
            (&raw mut (*device).data).write(ManuallyDrop::new(Counted(drops.clone())));
            Device::<Counted>::end(device.cast());
        }
        assert_eq!(drops.load(Relaxed), 1);
        assert!(link.is_cut());
        drop(memory);
        assert_eq!(drops.load(Relaxed), 1);
        Ok(())
    }

    /// A driver that counts how often its log is ended.
    struct Logging(Arc<Atomic<u32>>);

    impl Operations for Logging {
        type OpenData = ();
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";
        const DMA_LOGGING: Option<Ops<Self>> = Some(Ops::new());

        fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            Err::<Self, _>(ENODEV)
        }

        fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            Ok::<_, Error>(())
        }
    }

    impl DmaLogging for Logging {
        fn max_ranges(&self) -> usize {
            1
        }

        fn start(_dev: &OpenDevice<'_, Self>, _ranges: &[IovaRange], page: u64) -> Result<u64> {
            Ok(page)
        }

        fn stop(_dev: &OpenDevice<'_, Self>) -> Result {
            Ok(())
        }

        fn end(dev: &OpenDevice<'_, Self>) -> Result {
            dev.data().0.fetch_add(1, Relaxed);
            Ok(())
        }

        fn report(
            _dev: &OpenDevice<'_, Self>,
            _range: IovaRange,
            _dirty: &mut IovaBitmap<'_>,
        ) -> Result {
            Ok(())
        }

        fn lost(&self) {}

        fn after_reset(&self) {}
    }

    /// A log that its user has not stopped ends with the last close (mutant D35).
    #[test]
    fn l21_the_last_close_ends_the_log() -> Result {
        let flags = GFP_KERNEL | __GFP_ZERO;
        let close = Logging::DMA_LOGGING.ok_or(EINVAL)?.close;
        let ends = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let mut memory = KBox::<MaybeUninit<Device<Logging>>>::new_uninit(flags)?;
        let device = memory.as_mut_ptr().cast::<Device<Logging>>();
        // SAFETY: The core device is never accessed.
        let link = unsafe { Link::new(NonNull::new(device.cast()).ok_or(EINVAL)?)? };
        // SAFETY: The fields are valid for writes and dropped once. The core device is all zeros,
        // and `close` only uses the registration data, because `Logging::end` succeeds.
        unsafe {
            (&raw mut (*device).link).write(ManuallyDrop::new(link));
            (&raw mut (*device).data).write(ManuallyDrop::new(Logging(ends.clone())));
            close(device.cast());
            Device::<Logging>::end(device.cast());
        }
        assert_eq!(ends.load(Relaxed), 1);
        Ok(())
    }

    /// `trap` makes the trapped BARs unmappable and leaves the others mappable.
    #[test]
    fn trapped_bars_cannot_be_mapped() -> Result {
        let mut core = KBox::<bindings::vfio_pci_core_device>::new_uninit(GFP_KERNEL)?;
        let core = core.as_mut_ptr();
        // SAFETY: The array is valid for writes; `trap` touches nothing else.
        unsafe {
            (&raw mut (*core).bar_mmap_supported).write([true; 6]);
            trap(core, BarSet::only(2).and(BarSet::only(5)));
            let left = (&raw const (*core).bar_mmap_supported).read();
            assert_eq!(left, [true, true, false, true, true, false]);
        }
        Ok(())
    }
}
