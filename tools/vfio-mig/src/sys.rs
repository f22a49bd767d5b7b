// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VFIO calls for which no crate has a safe function: the only `unsafe` of this tool.
//!
//! `vfio-ioctls` opens devices; what it lacks, or does without telling the errno, is here:
//! feature probes, calls that are wrong on purpose, PRECOPY_INFO with its flags, a data file of one's own, REPORT into a
//! caller's bitmap, reset with a result, and mapping memory for DMA. Each wrapper takes and
//! gives back only owned or borrowed Rust values, and every pointer that the kernel sees is
//! made from one of them here.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd},
    sync::Arc,
};

use vfio_bindings::bindings::vfio as vb;
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vm_memory::{bitmap::AtomicBitmap, mmap::MmapRegion};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ptr};

/// `_IO(VFIO_TYPE, VFIO_BASE + nr)` of `linux/vfio.h`.
const fn vfio_io(nr: u32) -> u64 {
    (((vb::VFIO_TYPE as u32) << 8) | (vb::VFIO_BASE + nr)) as u64
}
const VFIO_DEVICE_GET_INFO: u64 = vfio_io(7);
const VFIO_DEVICE_RESET: u64 = vfio_io(11);
const VFIO_DEVICE_FEATURE: u64 = vfio_io(17);
const VFIO_MIG_GET_PRECOPY_INFO: u64 = vfio_io(21);

/// A feature call of at most 64 bytes of payload, laid out as the kernel takes it.
#[repr(C, align(8))]
struct Request {
    argsz: u32,
    flags: u32,
    payload: [u64; 8],
}

fn check(ret: i32) -> io::Result<()> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn call(dev: BorrowedFd<'_>, request: &mut Request) -> io::Result<()> {
    // SAFETY: the kernel reads and writes at most the payload that the feature has, and none
    // of those known to `feature`, `log_start` and `log_report` is longer than `payload`;
    // pointers inside the payload are the business of those two callers.
    check(unsafe { ioctl_with_mut_ref(&dev, VFIO_DEVICE_FEATURE, request) })
}

/// The file of an open device, for as long as the device stays open.
pub fn device_fd(dev: &VfioDevice) -> BorrowedFd<'_> {
    // SAFETY: `dev` keeps its file open until it is dropped, which the lifetime excludes.
    unsafe { BorrowedFd::borrow_raw(dev.as_raw_fd()) }
}

/// `VFIO_DEVICE_FEATURE` with any flags and `argsz`, for features without pointers or file
/// descriptors in their payload (all but START, REPORT, a state that is set, DMA_BUF).
///
/// # Errors
///
/// The kernel's errno; `InvalidInput` for a feature that this function must not take.
pub fn feature(
    dev: BorrowedFd<'_>,
    flags: u32,
    argsz: u32,
    payload: [u64; 8],
) -> io::Result<[u64; 8]> {
    let index = flags & vb::VFIO_DEVICE_FEATURE_MASK;
    let probe = flags & vb::VFIO_DEVICE_FEATURE_PROBE != 0;
    let set = flags & vb::VFIO_DEVICE_FEATURE_SET != 0;
    let owns_things = match index {
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START
        | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT
        | vb::VFIO_DEVICE_FEATURE_DMA_BUF => true,
        vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE => set,
        _ => index > vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
    };
    if owns_things && !probe {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = Request {
        argsz,
        flags,
        payload,
    };
    call(dev, &mut request)?;
    Ok(request.payload)
}

/// Requests a migration state; a state that opens a session answers with its data file.
///
/// # Errors
///
/// The kernel's errno; the device may then be in a state between, ask for it.
pub fn set_state(dev: BorrowedFd<'_>, state: u32) -> io::Result<Option<File>> {
    let mut request = Request {
        argsz: 16,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        // struct vfio_device_feature_mig_state: state, then data_fd = -1.
        payload: [
            u64::from(state) | 0xffff_ffff_0000_0000,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    };
    call(dev, &mut request)?;
    let fd = (request.payload[0] >> 32) as u32 as i32;
    // SAFETY: on success data_fd is -1 or a descriptor that the kernel has just made for us.
    Ok((fd >= 0).then(|| unsafe { File::from_raw_fd(fd) }))
}

/// `VFIO_DEVICE_FLAGS_*` of `VFIO_DEVICE_GET_INFO`.
///
/// # Errors
///
/// The kernel's errno.
pub fn device_flags(dev: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = vb::vfio_device_info {
        argsz: size_of::<vb::vfio_device_info>() as u32,
        ..Default::default()
    };
    // SAFETY: `info` is the struct that this call reads and writes, argsz says its size.
    check(unsafe { ioctl_with_mut_ref(&dev, VFIO_DEVICE_GET_INFO, &mut info) })?;
    Ok(info.flags)
}

/// `VFIO_DEVICE_RESET`.
///
/// # Errors
///
/// The kernel's errno: EINVAL when the device has no reset, EAGAIN when it is contended.
pub fn reset(dev: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    check(unsafe { ioctl(&dev, VFIO_DEVICE_RESET) })
}

/// `VFIO_MIG_GET_PRECOPY_INFO` on a data file.
///
/// # Errors
///
/// The kernel's errno: EINVAL outside the pre-copy states, ENODEV on a dead file.
pub fn precopy_info(data: &File) -> io::Result<vb::vfio_precopy_info> {
    let mut info = vb::vfio_precopy_info {
        argsz: size_of::<vb::vfio_precopy_info>() as u32,
        ..Default::default()
    };
    // SAFETY: `info` is the struct that this call reads and writes, argsz says its size.
    check(unsafe { ioctl_with_mut_ref(data, VFIO_MIG_GET_PRECOPY_INFO, &mut info) })?;
    Ok(info)
}

/// Starts DMA logging of (IOVA, length) ranges; answers with the granule in bytes.
///
/// # Errors
///
/// The kernel's errno: EINVAL (also when it is started already), E2BIG, EOVERFLOW, ENOTTY.
pub fn log_start(dev: BorrowedFd<'_>, page_size: u64, ranges: &[(u64, u64)]) -> io::Result<u64> {
    let ranges: Vec<vb::vfio_device_feature_dma_logging_range> = ranges
        .iter()
        .map(|&(iova, length)| vb::vfio_device_feature_dma_logging_range { iova, length })
        .collect();
    let count = u32::try_from(ranges.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut request = Request {
        argsz: 32,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        // page_size, num_ranges, ranges; `ranges` outlives the call.
        payload: [
            page_size,
            u64::from(count),
            ranges.as_ptr() as u64,
            0,
            0,
            0,
            0,
            0,
        ],
    };
    call(dev, &mut request)?;
    Ok(request.payload[0])
}

/// Asks which pages of `[iova, iova + length)` the device has written since they were last
/// reported: sets bit n of `bitmap` for page n of `page_size` bytes and clears none.
///
/// # Errors
///
/// The kernel's errno; `InvalidInput` when `bitmap` is too short or `page_size` is 0.
pub fn log_report(
    dev: BorrowedFd<'_>,
    iova: u64,
    length: u64,
    page_size: u64,
    bitmap: &mut [u64],
) -> io::Result<()> {
    if page_size == 0 || length.div_ceil(page_size).div_ceil(64) > bitmap.len() as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = Request {
        argsz: 40,
        flags: vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        // The bitmap covers the range (checked above) and is borrowed mutably during the call.
        payload: [
            iova,
            length,
            page_size,
            bitmap.as_mut_ptr() as u64,
            0,
            0,
            0,
            0,
        ],
    };
    call(dev, &mut request)
}

/// `VFIO_DEVICE_FEATURE` with an address where no memory is.
///
/// # Errors
///
/// The kernel's errno, which should be EFAULT.
pub fn feature_nowhere(dev: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: page 0 is never mapped, so the kernel finds nothing to read or write.
    check(unsafe { ioctl_with_ptr(&dev, VFIO_DEVICE_FEATURE, std::ptr::null_mut::<u8>()) })
}

/// A feature call with a struct that the kernel can read and not write.
fn call_unwritable(dev: BorrowedFd<'_>, request: Request) -> io::Result<()> {
    use rustix::mm;
    let (len, private) = (rustix::param::page_size(), mm::MapFlags::PRIVATE);
    let rw = mm::ProtFlags::READ | mm::ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let page = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, rw, private)? };
    // SAFETY: the page is ours, writable, aligned and larger than a request.
    unsafe { page.cast::<Request>().write(request) };
    // SAFETY: nothing refers to the page; the kernel reads the request and cannot write. Pointers
    // in its payload are the business of the callers.
    let result = unsafe {
        mm::mprotect(page, len, mm::MprotectFlags::READ)
            .map_err(io::Error::from)
            .and_then(|()| check(ioctl_with_ptr(&dev, VFIO_DEVICE_FEATURE, page)))
    };
    // SAFETY: mapped above, and nothing refers to it.
    unsafe { mm::munmap(page, len)? };
    result
}

/// SET of a state whose answer cannot be written; a data file that was made is closed again by
/// the kernel.
///
/// # Errors
///
/// The kernel's errno, which should be EFAULT.
pub fn set_state_unwritable(dev: BorrowedFd<'_>, state: u32) -> io::Result<()> {
    let request = Request {
        argsz: 16,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        payload: [u64::from(state), 0, 0, 0, 0, 0, 0, 0],
    };
    call_unwritable(dev, request)
}

/// LOGGING_START of one range whose answer cannot be written.
///
/// # Errors
///
/// The kernel's errno, which should be EFAULT.
pub fn log_start_unwritable(
    dev: BorrowedFd<'_>,
    page_size: u64,
    (iova, length): (u64, u64),
) -> io::Result<()> {
    let range = vb::vfio_device_feature_dma_logging_range { iova, length };
    let request = Request {
        argsz: 32,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        // One range, which outlives the call.
        payload: [page_size, 1, &raw const range as u64, 0, 0, 0, 0, 0],
    };
    call_unwritable(dev, request)
}

/// What a SET of a state left in the caller's struct, besides its result.
#[derive(Debug)]
pub struct StateEcho {
    /// What the kernel answered.
    pub result: io::Result<()>,
    /// `device_state`.
    pub state: u32,
    /// `data_fd` as a number; also when it became `file`.
    pub data_fd: i32,
    /// The data file, when the call succeeded with one.
    pub file: Option<File>,
}

/// Requests a migration state with any `argsz`, and shows what became of the struct.
pub fn set_state_echo(dev: BorrowedFd<'_>, state: u32, argsz: u32) -> StateEcho {
    let mut request = Request {
        argsz,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        // data_fd is output only: a number that is no descriptor shows whether it is written.
        payload: [
            u64::from(state) | 0x7fff_ffff_0000_0000,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ],
    };
    let result = call(dev, &mut request);
    let data_fd = (request.payload[0] >> 32) as u32 as i32;
    let made = result.is_ok() && (0..i32::MAX).contains(&data_fd);
    StateEcho {
        result,
        state: request.payload[0] as u32,
        data_fd,
        // SAFETY: on success data_fd is -1 or a descriptor that the kernel has just made for us;
        // our own number, in case it was not written, is excluded.
        file: made.then(|| unsafe { File::from_raw_fd(data_fd) }),
    }
}

/// Arguments of LOGGING_START, right or wrong.
#[derive(Clone, Debug)]
pub struct LogStart<'a> {
    /// Size of the struct that the kernel is told, 32 when it is right.
    pub argsz: u32,
    /// The hint.
    pub page_size: u64,
    /// (IOVA, length) each; `None` is an address where no memory is, for one range.
    pub ranges: Option<&'a [(u64, u64)]>,
}

/// LOGGING_START with arguments that may be wrong; answers with `page_size` of the struct.
///
/// # Errors
///
/// The kernel's errno.
pub fn log_start_raw(dev: BorrowedFd<'_>, start: &LogStart<'_>) -> io::Result<u64> {
    let ranges: Option<Vec<_>> = start.ranges.map(|ranges| {
        let range = |&(iova, length)| vb::vfio_device_feature_dma_logging_range { iova, length };
        ranges.iter().map(range).collect()
    });
    let count = ranges.as_ref().map_or(Ok(1), |r| u32::try_from(r.len()));
    let count = count.map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = ranges.as_ref().map_or(0, |ranges| ranges.as_ptr() as u64);
    let mut request = Request {
        argsz: start.argsz,
        flags: vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        // `ranges` has `count` elements and outlives the call, or is at page 0.
        payload: [start.page_size, u64::from(count), address, 0, 0, 0, 0, 0],
    };
    call(dev, &mut request)?;
    Ok(request.payload[0])
}

/// LOGGING_REPORT of any range in any page size, to a bitmap at page 0, where no memory is: for
/// calls that the kernel has to refuse.
///
/// # Errors
///
/// The kernel's errno.
pub fn log_report_nowhere(
    dev: BorrowedFd<'_>,
    argsz: u32,
    (iova, length): (u64, u64),
    page_size: u64,
) -> io::Result<()> {
    let mut request = Request {
        argsz,
        flags: vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        payload: [iova, length, page_size, 0, 0, 0, 0, 0],
    };
    call(dev, &mut request)
}

/// `VFIO_MIG_GET_PRECOPY_INFO` with any contents of the struct.
///
/// # Errors
///
/// The kernel's errno; `info` is then as the kernel left it.
pub fn precopy_info_raw(data: &File, info: &mut vb::vfio_precopy_info) -> io::Result<()> {
    // SAFETY: the kernel reads and writes the struct and nothing after it: argsz is only compared
    // with its size.
    check(unsafe { ioctl_with_mut_ref(data, VFIO_MIG_GET_PRECOPY_INFO, info) })
}

/// The VFIO ioctl `VFIO_BASE + nr` on a data file, with an address where no memory is.
///
/// # Errors
///
/// The kernel's errno.
pub fn data_ioctl_nowhere(data: &File, nr: u32) -> io::Result<()> {
    // SAFETY: page 0 is never mapped, so the kernel finds nothing to read or write.
    check(unsafe { ioctl_with_ptr(data, vfio_io(nr), std::ptr::null_mut::<u8>()) })
}

/// Memory that the devices of one address space may write: unmapped when this is dropped.
pub struct DmaMapping {
    ops: Arc<dyn VfioOps>,
    iova: u64,
    memory: Arc<MmapRegion<AtomicBitmap>>,
}

impl DmaMapping {
    /// Maps all of `memory` at `iova`.
    ///
    /// # Errors
    ///
    /// What the container or the IOAS says: ENOMEM (locked memory limit), EEXIST, EINVAL.
    pub fn new(
        ops: Arc<dyn VfioOps>,
        iova: u64,
        memory: Arc<MmapRegion<AtomicBitmap>>,
    ) -> Result<Self, VfioError> {
        // SAFETY: `vm-memory` hands the region out only through volatile accesses, never as a
        // Rust reference, and the Arc keeps it mapped until `drop` has unmapped it for DMA.
        unsafe { ops.vfio_dma_map(iova, memory.size(), memory.as_ptr())? };
        Ok(Self { ops, iova, memory })
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        if let Err(e) = self.ops.vfio_dma_unmap(self.iova, self.memory.size()) {
            log::error!("DMA memory at {:#x} stays mapped: {e}", self.iova);
            // The device may still write: never give this memory to anyone else.
            std::mem::forget(Arc::clone(&self.memory));
        }
    }
}
