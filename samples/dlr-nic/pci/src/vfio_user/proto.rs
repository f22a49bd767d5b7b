// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Messages. All fields are in host order, which is little-endian here (see `dlr-abi`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub(crate) const CMD_VERSION: u16 = 1;
pub(crate) const CMD_DMA_MAP: u16 = 2;
pub(crate) const CMD_DMA_UNMAP: u16 = 3;
pub(crate) const CMD_DEVICE_GET_INFO: u16 = 4;
pub(crate) const CMD_DEVICE_GET_REGION_INFO: u16 = 5;
pub(crate) const CMD_DEVICE_GET_IRQ_INFO: u16 = 7;
pub(crate) const CMD_DEVICE_SET_IRQS: u16 = 8;
pub(crate) const CMD_REGION_READ: u16 = 9;
pub(crate) const CMD_REGION_WRITE: u16 = 10;
pub(crate) const CMD_DEVICE_RESET: u16 = 13;

/// Header flags: message type in bits 3:0 (0 command, 1 reply).
pub(crate) const TYPE_MASK: u32 = 0x0f;
pub(crate) const TYPE_COMMAND: u32 = 0;
pub(crate) const TYPE_REPLY: u32 = 1;
pub(crate) const FLAG_NO_REPLY: u32 = 0x10;
pub(crate) const FLAG_ERROR: u32 = 0x20;

/// Largest payload of a region access, and what we advertise.
pub(crate) const MAX_DATA: u32 = 1 << 20;
/// Most file descriptors in a message, and what we advertise.
pub(crate) const MAX_FDS: usize = 16;

pub(crate) const MAP_READ: u32 = 1;
pub(crate) const MAP_WRITE: u32 = 2;
/// As in `struct vfio_iommu_type1_dma_unmap`.
pub(crate) const UNMAP_ALL: u32 = 2;

pub(crate) const DEVICE_FLAGS_RESET: u32 = 1;
pub(crate) const DEVICE_FLAGS_PCI: u32 = 2;

pub(crate) const REGION_CONFIG: u32 = 7;
/// BARs, expansion ROM, configuration space, VGA.
pub(crate) const NUM_REGIONS: u32 = 9;
pub(crate) const REGION_FLAGS_RW: u32 = 3;

pub(crate) const IRQ_MSIX: u32 = 2;
/// INTx, MSI, MSI-X, error, request.
pub(crate) const NUM_IRQS: u32 = 5;
pub(crate) const IRQ_INFO_EVENTFD: u32 = 1;
pub(crate) const IRQ_INFO_NORESIZE: u32 = 8;

pub(crate) const IRQ_SET_DATA_NONE: u32 = 1;
pub(crate) const IRQ_SET_DATA_BOOL: u32 = 2;
pub(crate) const IRQ_SET_DATA_EVENTFD: u32 = 4;
pub(crate) const IRQ_SET_ACTION_MASK: u32 = 8;
pub(crate) const IRQ_SET_ACTION_UNMASK: u32 = 16;
pub(crate) const IRQ_SET_ACTION_TRIGGER: u32 = 32;

/// Starts each message.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) command: u16,
    /// Of the whole message, header included.
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) error: u32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Version {
    pub(crate) major: u16,
    pub(crate) minor: u16,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct DmaMap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct DmaUnmap {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) address: u64,
    pub(crate) size: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct DeviceInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) num_regions: u32,
    pub(crate) num_irqs: u32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RegionInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) cap_offset: u32,
    pub(crate) size: u64,
    pub(crate) offset: u64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct IrqInfo {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) count: u32,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct IrqSet {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) index: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// Followed by `count` bytes where data travels.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct RegionAccess {
    pub(crate) offset: u64,
    pub(crate) region: u32,
    pub(crate) count: u32,
}
