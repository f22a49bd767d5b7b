// SPDX-License-Identifier: Apache-2.0 OR MIT

//! An open VFIO device.

mod dirty_log;
mod migration;

use std::{io, os::fd::BorrowedFd, sync::Arc};

use anyhow::{Context, Result};
use clap::ValueEnum;
use iommufd_ioctls::{IommuFd, IommufdIoas};
use serde::Serialize;
use vfio_bindings::bindings::vfio as vb;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioIommufd, VfioOps};
use vm_memory::{bitmap::AtomicBitmap, mmap::MmapRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    advice::{self, Facts},
    discover::Sysfs,
    node::Node,
    noiommu::{self, Translation},
    state::MigrationFlags,
    sys,
};

pub use self::{dirty_log::DirtyLog, migration::Data};

/// How to reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// iommufd where /dev has its nodes, else legacy.
    Auto,
    /// Group and container (`/dev/vfio/GROUP`).
    Legacy,
    /// `/dev/vfio/devices/vfioN` and `/dev/iommu`.
    Iommufd,
}

/// Direction of a feature call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ask.
    Get,
    /// Tell.
    Set,
}

/// An open device and the address space that it is attached to.
pub struct Device {
    node: Node,
    backend: Backend,
    flags: Result<MigrationFlags, i32>,
    inner: VfioDevice,
    ops: Arc<dyn VfioOps>,
    /// The address space, with [`Backend::Iommufd`].
    space: Option<(Arc<IommuFd>, Arc<IommufdIoas>)>,
    /// In place of an IOMMU.
    translation: Option<Arc<Translation>>,
}

impl Device {
    /// Opens `node` with an address space of its own. For a PCI device the kernel resets the
    /// function on the way.
    ///
    /// # Errors
    ///
    /// What was missing and what to do about it.
    pub fn open(node: &Node, backend: Backend) -> Result<Self> {
        let sysfs = Sysfs::default();
        let backend = match backend {
            Backend::Auto if sysfs.has_iommufd(node) => Backend::Iommufd,
            Backend::Auto => Backend::Legacy,
            given => given,
        };
        let mut space = None;
        let ops: Arc<dyn VfioOps> = match backend {
            Backend::Iommufd => {
                let iommufd = IommuFd::new().map_err(|e| advice::no_iommufd(&e))?;
                let vfio = VfioIommufd::new(Arc::new(iommufd), None, None)?;
                space = Some((Arc::clone(vfio.iommufd()), Arc::clone(vfio.ioas())));
                Arc::new(vfio)
            }
            _ => Arc::new(VfioContainer::new(None).map_err(advice::no_container)?),
        };
        let inner = sys::open(&node.path, Arc::clone(&ops)).map_err(|e| {
            let neighbours = sysfs.host_neighbours(node);
            let facts = Facts {
                node,
                neighbours: &neighbours,
                without_iommu: sysfs.without_iommu(node),
            };
            advice::no_device(e, &facts)
        })?;
        let mut device = Self {
            node: node.clone(),
            backend,
            flags: Err(0),
            inner,
            ops,
            space,
            translation: None,
        };
        if device.has_no_iommu() && device.region_size(noiommu::REGION) == noiommu::SIZE {
            let at = device.inner.get_region_offset(noiommu::REGION);
            device.translation = Translation::find(device.fd(), at)?.map(Arc::new);
        }
        device.flags = device
            .feature(Direction::Get, vb::VFIO_DEVICE_FEATURE_MIGRATION, 8)
            .map(|payload| MigrationFlags(payload[0]))
            .map_err(|e| e.raw_os_error().unwrap_or(0));
        Ok(device)
    }

    /// Its place in sysfs.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The way it was opened; never `Auto`.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The device file, for raw calls.
    pub fn fd(&self) -> BorrowedFd<'_> {
        sys::device_fd(&self.inner)
    }

    /// `VFIO_DEVICE_FEATURE` with `bytes` of payload.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn feature(&self, direction: Direction, index: u32, bytes: u32) -> io::Result<[u64; 8]> {
        let flags = match direction {
            Direction::Get => vb::VFIO_DEVICE_FEATURE_GET,
            Direction::Set => vb::VFIO_DEVICE_FEATURE_SET,
        };
        sys::feature(self.fd(), flags | index, 8 + bytes, [0; 8])
    }

    /// Does the device have this feature in this direction?
    pub fn probe(&self, direction: Direction, index: u32) -> bool {
        let flags = match direction {
            Direction::Get => vb::VFIO_DEVICE_FEATURE_GET,
            Direction::Set => vb::VFIO_DEVICE_FEATURE_SET,
        };
        let flags = flags | vb::VFIO_DEVICE_FEATURE_PROBE | index;
        sys::feature(self.fd(), flags, 8, [0; 8]).is_ok()
    }

    /// The migration flags, or the errno that the kernel answered (ENOTTY: no migration).
    pub fn migration(&self) -> Result<MigrationFlags, i32> {
        self.flags
    }

    /// Asks for PRECOPY_INFOv2, so that a restarted initial image is told. `false`: not had.
    pub fn opt_in_precopy_v2(&self) -> bool {
        self.feature(
            Direction::Set,
            vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
            0,
        )
        .is_ok()
    }

    /// Has it DMA logging?
    pub fn has_logging(&self) -> bool {
        self.probe(Direction::Set, vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START)
            && self.probe(Direction::Get, vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)
    }

    /// Maps `memory` at `iova` of the device's address space, for as long as the answer lives.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn map(&self, iova: u64, memory: Arc<MmapRegion<AtomicBitmap>>) -> Result<sys::DmaMapping> {
        let what = || format!("cannot map DMA memory at {iova:#x} for {}", self.node.name);
        let length = memory.size() as u64;
        let mut mapping = sys::DmaMapping::new(Arc::clone(&self.ops), iova, memory)
            .map_err(advice::no_mapping)
            .with_context(what)?;
        if let (Some(translation), Some((iommufd, ioas))) = (&self.translation, &self.space) {
            // From here on dropping the mapping also takes it out of the table.
            mapping.translated_by(Arc::clone(translation));
            let find = |iova, length| sys::physical_address(iommufd, ioas.id(), iova, length);
            translation.map(iova, length, find).with_context(what)?;
        }
        Ok(mapping)
    }

    /// In the no-IOMMU mode of VFIO the device reaches all memory, whatever is mapped.
    fn has_no_iommu(&self) -> bool {
        let cdev = self.node.cdev.as_deref();
        cdev.is_some_and(|cdev| cdev.starts_with("noiommu-"))
    }

    /// Sets the first MSI-X vector up: it signals `event`.
    ///
    /// # Errors
    ///
    /// The device has no MSI-X, or refuses in its state.
    pub fn enable_msix(&self, event: &EventFd) -> Result<()> {
        self.inner
            .enable_irq(vb::VFIO_PCI_MSIX_IRQ_INDEX, vec![event])
            .context("cannot set MSI-X up")
    }

    /// Size in bytes of region `index`; 0 when there is none.
    pub fn region_size(&self, index: u32) -> u64 {
        self.inner.get_region_size(index)
    }

    /// Flags of region `index`, `VFIO_REGION_INFO_FLAG_*`; 0 when there is none.
    pub fn region_flags(&self, index: u32) -> u32 {
        self.inner.get_region_flags(index)
    }

    /// Reads from a region.
    ///
    /// # Errors
    ///
    /// The kernel's errno, or `UnexpectedEof` on a short read.
    pub fn region_read(&self, index: u32, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = self.inner.get_region_offset(index) + offset;
        match rustix::io::pread(self.fd(), &mut *buf, at)? {
            n if n == buf.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Writes to a region.
    ///
    /// # Errors
    ///
    /// The kernel's errno, or `WriteZero` on a short write.
    pub fn region_write(&self, index: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = self.inner.get_region_offset(index) + offset;
        match rustix::io::pwrite(self.fd(), data, at)? {
            n if n == data.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}
