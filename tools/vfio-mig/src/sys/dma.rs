// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory for DMA of a device, and its own memory for DMA of others.

use std::{
    io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    sync::Arc,
};

use iommufd_ioctls::IommuFd;
use rustix::fs::OFlags;
use vfio_bindings::bindings::vfio as vb;
use vfio_ioctls::{VfioError, VfioOps};
use vm_memory::{bitmap::AtomicBitmap, mmap::MmapRegion};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

use super::{check, starve, Request, VFIO_DEVICE_FEATURE};
use crate::noiommu::Translation;

/// Exports `length` bytes of region `region`, from `offset` on, as a dma-buf.
///
/// # Errors
///
/// The kernel's errno: EINVAL when the region, or this part of it, cannot be exported, EOPNOTSUPP
/// when none can, ENODEV when there is no such region.
pub fn dma_buf(dev: BorrowedFd<'_>, region: u32, offset: u64, length: u64) -> io::Result<OwnedFd> {
    let mut request = Request {
        argsz: 40,
        flags: vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_DMA_BUF,
        // region_index and open_flags, flags (none) and nr_ranges (one), then the range.
        payload: [
            u64::from(region) | u64::from(OFlags::CLOEXEC.bits()) << 32,
            1 << 32,
            offset,
            length,
            0,
            0,
            0,
            0,
        ],
    };
    let fd = starve::call(|| {
        // SAFETY: the kernel reads the payload, which has no pointers, and writes nothing.
        let fd = unsafe { ioctl_with_mut_ref(&dev, VFIO_DEVICE_FEATURE, &mut request) };
        check(fd).map(|()| fd)
    })?;
    // SAFETY: on success the answer is a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Memory that the devices of one address space may write: unmapped when this is dropped.
pub struct DmaMapping {
    ops: Arc<dyn VfioOps>,
    iova: u64,
    memory: Arc<MmapRegion<AtomicBitmap>>,
    translation: Option<Arc<Translation>>,
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
        Ok(Self {
            ops,
            iova,
            memory,
            translation: None,
        })
    }

    /// Before the memory is unmapped it is taken out of this table.
    pub(crate) fn translated_by(&mut self, translation: Arc<Translation>) {
        self.translation = Some(translation);
    }
}

impl Drop for DmaMapping {
    fn drop(&mut self) {
        let length = self.memory.size() as u64;
        let taken_out = match &self.translation {
            Some(translation) => translation.unmap(self.iova, length),
            None => Ok(()),
        };
        if let Err(e) = taken_out {
            log::error!("DMA memory at {:#x} stays in the table: {e}", self.iova);
            // As below.
            std::mem::forget(Arc::clone(&self.memory));
        }
        if let Err(e) = self.ops.vfio_dma_unmap(self.iova, self.memory.size()) {
            log::error!("DMA memory at {:#x} stays mapped: {e}", self.iova);
            // The device may still write: never give this memory to anyone else.
            std::mem::forget(Arc::clone(&self.memory));
        }
    }
}

/// `struct iommu_ioas_noiommu_get_pa` of `linux/iommufd.h` (7.3).
#[repr(C)]
struct PhysicalAddress {
    size: u32,
    flags: u32,
    ioas_id: u32,
    reserved: u32,
    iova: u64,
    length: u64,
    out_phys: u64,
}

/// `IOMMU_IOAS_NOIOMMU_GET_PA`: where the memory that is mapped at `iova` of an address space without
/// an IOMMU is, and how many bytes of the next `length` follow each other there.
///
/// # Errors
///
/// The kernel's errno: `ENOTTY` before Linux 7.3, `ENOENT` where nothing is mapped, `EOPNOTSUPP` for
/// an address space with an IOMMU.
pub fn physical_address(
    iommufd: &IommuFd,
    ioas: u32,
    iova: u64,
    length: u64,
) -> io::Result<(u64, u64)> {
    /// `_IO(IOMMUFD_TYPE, IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA)`.
    const GET_PA: u64 = (b';' as u64) << 8 | 0x95;
    let mut request = PhysicalAddress {
        size: size_of::<PhysicalAddress>() as u32,
        flags: 0,
        ioas_id: ioas,
        reserved: 0,
        iova,
        length,
        out_phys: 0,
    };
    // SAFETY: the kernel reads and writes `size` bytes, which are those of `request`.
    check(unsafe { ioctl_with_mut_ref(iommufd, GET_PA, &mut request) })?;
    Ok((request.out_phys, request.length))
}
