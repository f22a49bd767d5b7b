// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The VFIO calls for which no crate has a safe function: the only `unsafe` of this tool.
//!
//! `vfio-ioctls` opens devices; what it lacks, or does without telling the errno, is here: feature
//! probes, PRECOPY_INFO with its flags, a data file of one's own, REPORT into a caller's bitmap, reset
//! with a result, mapping memory for DMA, and a region as a dma-buf; in [`wrong`] the calls that are
//! wrong on purpose. Each wrapper takes and gives back only owned or borrowed Rust values, and every
//! pointer that the kernel sees is made from one of them here.
#![allow(unsafe_code)]

pub mod held;
pub mod starve;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd},
    path::Path,
    sync::Arc,
};

use vfio_bindings::bindings::vfio as vb;
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref};

mod dma;
mod wrong;

pub use dma::{dma_buf, physical_address, DmaMapping};
pub use wrong::{
    data_ioctl_nowhere, feature_nowhere, log_report_nowhere, log_start_raw, log_start_unwritable,
    precopy_info_raw, set_state_echo, set_state_unwritable, LogStart, StateEcho,
};

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
    starve::call(|| check(unsafe { ioctl_with_mut_ref(&dev, VFIO_DEVICE_FEATURE, request) }))
}

/// read(2) of a data file.
///
/// # Errors
///
/// The kernel's errno.
pub fn read(mut data: &File, bytes: &mut [u8]) -> io::Result<usize> {
    starve::call(|| data.read(bytes))
}

/// write(2) to a data file.
///
/// # Errors
///
/// The kernel's errno.
pub fn write(mut data: &File, bytes: &[u8]) -> io::Result<usize> {
    starve::call(|| data.write(bytes))
}

/// Opens a device at a path, with all calls that `vfio-ioctls` makes for that, and in the address
/// space of `ops`.
///
/// # Errors
///
/// Those of [`VfioDevice::new`].
pub fn open(path: &Path, ops: Arc<dyn VfioOps>) -> Result<VfioDevice, VfioError> {
    starve::call(|| VfioDevice::new(path, ops, true))
}

/// Closes a device, if this is the last reference to it.
pub fn close<D>(device: Arc<D>) {
    starve::call(|| drop(device));
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
    starve::call(|| check(unsafe { ioctl(&dev, VFIO_DEVICE_RESET) }))
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
    starve::call(|| {
        check(unsafe { ioctl_with_mut_ref(data, VFIO_MIG_GET_PRECOPY_INFO, &mut info) })
    })?;
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

/// [`log_report`] into memory that the kernel has to wait for.
///
/// # Errors
///
/// The kernel's errno; `InvalidInput` when `bitmap` is too short or `page_size` is 0.
pub fn log_report_held(
    dev: BorrowedFd<'_>,
    (iova, length): (u64, u64),
    page_size: u64,
    bitmap: &held::HeldBitmap,
) -> io::Result<()> {
    if page_size == 0 || length.div_ceil(page_size).div_ceil(64) > bitmap.len() as u64 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = Request {
        argsz: 40,
        flags: vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        // The bitmap covers the range (checked above), and no Rust code refers to its memory.
        payload: [iova, length, page_size, bitmap.address(), 0, 0, 0, 0],
    };
    call(dev, &mut request)
}
