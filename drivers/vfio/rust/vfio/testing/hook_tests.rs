// SPDX-License-Identifier: GPL-2.0

//! Tests of the hooks for regions, by a driver that overrides all of them.

use kernel::prelude::*;

#[kunit_tests(vfio_hooks)]
mod tests {
    use super::super::opened::{
        OpenedDevice,
        BAR_SIZE, //
    };
    use crate::{
        bindings,
        ext::{
            testing::UserMemory,
            user, //
        },
        vfio::{
            bar::BarSet,
            call::{
                Described,
                Ioctl,
                Mmap,
                RegionInfo, //
            },
            config_space::ConfigRange,
            id::{
                IdTable,
                NO_DEVICES, //
            },
            pci::{
                OpenDevice,
                Operations, //
            },
            region::{
                Read,
                Write, //
            },
            region_ops::RegionOps,
            PciFunction, //
        },
    };
    use kernel::{
        bindings as kbindings,
        page::PAGE_SIZE,
        prelude::*,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    /// The trapped BAR, and one that is not trapped.
    const TRAPPED: u32 = 2;
    const FREE: u32 = 0;
    const CONFIG: u32 = bindings::VFIO_PCI_CONFIG_REGION_INDEX;
    /// A region that vfio-pci-core does not have: it refuses reads and writes with `EINVAL`.
    const ABSENT: u32 = 40;

    /// The size of the trapped BAR that the driver tells the user.
    const TOLD: u64 = 64;

    /// `_IO(VFIO_TYPE, VFIO_BASE + 99)`, an ioctl of this driver only.
    const OWN: c_uint = kernel::ioctl::_IO(b';' as u32, 100 + 99);
    const IOEVENTFD: c_uint = kernel::ioctl::_IO(b';' as u32, 100 + 16);

    /// A driver that overrides the hooks.
    struct Hooked {
        trapped: BarSet,
        /// Number of calls of `trapped_bars`, of which the first one counts.
        asked: Atomic<u32>,
        masked: [ConfigRange; 1],
        /// The offset and the value of the last write to the trapped BAR.
        written: [Atomic<u32>; 2],
        /// Number of calls of `mmap`.
        mapped: Atomic<u32>,
    }

    impl Operations for Hooked {
        type OpenData = [u8; 4];
        const ID_TABLE: IdTable = NO_DEVICES;
        const NAME: &'static CStr = c"vfio-kunit";

        fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
            Err::<Self, _>(ENODEV)
        }

        fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<[u8; 4], Error> {
            Err::<[u8; 4], _>(ENODEV)
        }

        fn trapped_bars(&self) -> BarSet {
            match self.asked.fetch_add(1, Relaxed) {
                0 => self.trapped,
                _ => BarSet::NONE,
            }
        }

        fn masked_config(&self) -> &[ConfigRange] {
            &self.masked
        }

        fn read(dev: &OpenDevice<'_, Self>, read: Read<'_>) -> Result<usize> {
            match read.region() {
                TRAPPED if read.offset() == 0x10 => read.answer(&dev.open_data()[..]),
                TRAPPED => Err(ENXIO),
                _ => read.forward(),
            }
        }

        fn write(dev: &OpenDevice<'_, Self>, write: Write<'_>) -> Result<usize> {
            if write.region() != TRAPPED {
                return write.forward();
            }
            let offset = write.offset();
            let mut value = [0; 4];
            let done = write.take(&mut value)?;
            let written = &dev.data().get_ref().written;
            written[0].store(offset as u32, Relaxed);
            written[1].store(u32::from_le_bytes(value), Relaxed);
            Ok(done)
        }

        fn ioctl(_dev: &OpenDevice<'_, Self>, ioctl: Ioctl<'_>) -> Result<c_long> {
            if ioctl.command() == OWN {
                let value: u32 = user::read(ioctl.argument().as_const_ptr().addr())?;
                return Ok(value as c_long);
            }
            ioctl.forward()
        }

        fn mmap(dev: &OpenDevice<'_, Self>, mmap: Mmap<'_>) -> Result {
            dev.data().get_ref().mapped.fetch_add(1, Relaxed);
            match (mmap.region(), mmap.offset()) {
                (FREE, 0x3000) => Ok(()),
                (FREE, _) => Err(EACCES),
                _ => mmap.forward(),
            }
        }

        fn region_info<'a>(
            _dev: &OpenDevice<'_, Self>,
            info: RegionInfo<'a>,
        ) -> Result<Described<'a>> {
            let trapped = info.region() == TRAPPED;
            let mut described = info.forward()?;
            if trapped {
                described.set_size(described.size().min(TOLD));
            }
            Ok(described)
        }
    }

    type Ops = RegionOps<Hooked>;

    fn opened(trapped: BarSet) -> Result<OpenedDevice<Hooked>> {
        let data = Hooked {
            trapped,
            asked: Atomic::new(0),
            masked: [ConfigRange::new(0..8)?],
            written: [Atomic::new(0), Atomic::new(0)],
            mapped: Atomic::new(0),
        };
        OpenedDevice::new(data, *b"edu!")
    }

    fn position(region: u32, offset: i64) -> i64 {
        i64::from(region) << 40 | offset
    }

    /// Reads `len` bytes. Returns the result of the callback and how far the position has moved.
    fn read(device: &OpenedDevice<Hooked>, buffer: usize, len: usize, from: i64) -> (isize, i64) {
        let mut position = from;
        let buffer = buffer as *mut c_char;
        // SAFETY: The device is open; `position` is ours.
        let done = unsafe { Ops::read(device.vdev(), buffer, len, &mut position) };
        (done, position - from)
    }

    /// As [`read`].
    fn write(device: &OpenedDevice<Hooked>, buffer: usize, len: usize, to: i64) -> (isize, i64) {
        let mut position = to;
        let buffer = buffer as *const c_char;
        // SAFETY: The device is open; `position` is ours.
        let done = unsafe { Ops::write(device.vdev(), buffer, len, &mut position) };
        (done, position - to)
    }

    /// Maps a page of user memory, and returns it with the address of a page that is not mapped.
    fn user_page() -> Result<(UserMemory, usize)> {
        let mut memory = UserMemory::new(2 * PAGE_SIZE)?;
        memory.truncate(PAGE_SIZE)?;
        let hole = memory.address() + PAGE_SIZE;
        Ok((memory, hole))
    }

    fn errno(error: Error) -> (isize, i64) {
        (error.to_errno() as isize, 0)
    }

    /// The user gets the driver's bytes, at most as many as asked for, and the file position moves
    /// by as many. Errors come back as errnos, and other regions are those of vfio-pci-core.
    #[test]
    fn the_driver_answers_reads_of_a_trapped_bar() -> Result {
        let device = opened(BarSet::only(TRAPPED))?;
        let (memory, hole) = user_page()?;
        let at = position(TRAPPED, 0x10);
        assert_eq!(read(&device, memory.address(), 2, at), (2, 2));
        assert_eq!(memory.read()?[..4], *b"ed\0\0");
        assert_eq!(read(&device, memory.address(), 8, at), (4, 4));
        assert_eq!(memory.read()?[..8], *b"edu!\0\0\0\0");
        let refused = read(&device, memory.address(), 4, position(TRAPPED, 0x14));
        assert_eq!(refused, errno(ENXIO));
        let absent = read(&device, memory.address(), 4, position(ABSENT, 0x10));
        assert_eq!(absent, errno(EINVAL));
        assert_eq!(read(&device, hole, 4, at), errno(EFAULT));
        Ok(())
    }

    /// The driver gets the bytes of a write, which must have the length that it asks for.
    #[test]
    fn the_driver_takes_writes_to_a_trapped_bar() -> Result {
        let device = opened(BarSet::only(TRAPPED))?;
        let (memory, hole) = user_page()?;
        memory.write(&[1, 2, 3, 4])?;
        let written = || {
            device
                .data()
                .written
                .each_ref()
                .map(|word| word.load(Relaxed))
        };
        let at = position(TRAPPED, 0x20);
        assert_eq!(write(&device, memory.address(), 4, at), (4, 4));
        assert_eq!(written(), [0x20, 0x0403_0201]);
        assert_eq!(write(&device, memory.address(), 5, at + 8), errno(EINVAL));
        assert_eq!(write(&device, hole, 4, at + 8), errno(EFAULT));
        let absent = write(&device, memory.address(), 4, position(ABSENT, 0x20));
        assert_eq!(absent, errno(EINVAL));
        assert_eq!(written(), [0x20, 0x0403_0201]);
        Ok(())
    }

    /// Masked bytes of configuration space read as zeros and drop writes, without vfio-pci-core.
    #[test]
    fn masked_configuration_space_is_never_forwarded() -> Result {
        let device = opened(BarSet::NONE)?;
        let (memory, hole) = user_page()?;
        memory.write(&[0xff; 10])?;
        assert_eq!(
            read(&device, memory.address(), 6, position(CONFIG, 2)),
            (6, 6)
        );
        assert_eq!(memory.read()?[..8], [0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(
            write(&device, memory.address(), 8, position(CONFIG, 0)),
            (8, 8)
        );
        assert_eq!(read(&device, hole, 4, position(CONFIG, 0)), errno(EFAULT));
        Ok(())
    }

    /// By an ioeventfd vfio-pci-core would write to a BAR itself, so a device with a trapped BAR
    /// has none. One without gets to the core, which refuses the empty argument.
    #[test]
    fn a_driver_has_ioctls_of_its_own_and_a_trapped_bar_no_ioeventfds() -> Result {
        let memory = UserMemory::new(PAGE_SIZE)?;
        memory.write(&0x1234_u32.to_ne_bytes())?;
        let call = |device: &OpenedDevice<Hooked>, command| {
            // SAFETY: The device is open.
            unsafe { Ops::ioctl(device.vdev(), command, memory.address()) }
        };
        let refused = |error: Error| error.to_errno() as c_long;
        let trapped = opened(BarSet::only(TRAPPED))?;
        assert_eq!(call(&trapped, OWN), 0x1234);
        memory.write(&[0; 64])?;
        assert_eq!(call(&trapped, OWN), 0);
        assert_eq!(call(&trapped, IOEVENTFD), refused(ENOTTY));
        assert_eq!(call(&trapped, OWN + 1), refused(ENOTTY));
        assert_eq!(call(&opened(BarSet::NONE)?, IOEVENTFD), refused(EINVAL));
        Ok(())
    }

    /// The layer refuses to map a trapped BAR before the driver is asked.
    #[test]
    fn the_driver_maps_bars_but_no_trapped_one() -> Result {
        let device = opened(BarSet::only(TRAPPED))?;
        let map = |region: u32, offset: i64| -> Result<c_int> {
            let flags = GFP_KERNEL | __GFP_ZERO;
            let mut area = KBox::<kbindings::vm_area_struct>::new_uninit(flags)?;
            let area = area.as_mut_ptr();
            // SAFETY: All zeros is valid for the C struct. The device is open, and only this call
            // uses the area.
            Ok(unsafe {
                (*area).vm_pgoff = position(region, offset) as usize / PAGE_SIZE;
                Ops::mmap(device.vdev(), area)
            })
        };
        let mapped = || device.data().mapped.load(Relaxed);
        assert_eq!(map(TRAPPED, 0x3000)?, EINVAL.to_errno());
        assert_eq!(mapped(), 0);
        assert_eq!(map(FREE, 0x3000)?, 0);
        assert_eq!(map(FREE, 0)?, EACCES.to_errno());
        // vfio-pci-core refuses the area, which is not shared.
        assert_eq!(map(1, 0)?, EINVAL.to_errno());
        assert_eq!(mapped(), 3);
        Ok(())
    }

    /// The user is told the driver's size, and that a trapped BAR cannot be mapped.
    #[test]
    fn the_driver_describes_regions() -> Result {
        let device = opened(BarSet::only(TRAPPED))?;
        let describe = |index| {
            let mut info = bindings::vfio_region_info {
                index,
                ..Default::default()
            };
            let mut caps = bindings::vfio_info_cap::default();
            // SAFETY: The device is open; both are ours.
            let ret = unsafe { Ops::region_info(device.vdev(), &mut info, &mut caps) };
            (
                ret,
                info.size,
                info.flags & bindings::VFIO_REGION_INFO_FLAG_MMAP != 0,
            )
        };
        assert_eq!(describe(TRAPPED), (0, TOLD, false));
        assert_eq!(describe(FREE), (0, BAR_SIZE, true));
        assert_eq!(describe(ABSENT).0, EINVAL.to_errno());
        Ok(())
    }
}
