// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls that may be wrong, or are on purpose: for what the kernel has to refuse.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, FromRawFd},
};

use vfio_bindings::bindings::vfio as vb;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ptr};

use super::{call, check, vfio_io, Request, VFIO_DEVICE_FEATURE, VFIO_MIG_GET_PRECOPY_INFO};

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
