// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Messages of the virtual PCI device (`include/uapi/linux/virtio_pcidev.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct virtio_pcidev_msg` without its data.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    /// `enum virtio_pcidev_ops`.
    pub(super) op: u8,
    /// The BAR, of operations on memory.
    pub(super) bar: u8,
    reserved: u16,
    /// Bytes to read or write.
    pub(super) size: u32,
    /// Offset in configuration space or in the BAR.
    pub(super) addr: u64,
}

pub(super) const CFG_READ: u8 = 1;
pub(super) const CFG_WRITE: u8 = 2;
pub(super) const MMIO_READ: u8 = 3;
pub(super) const MMIO_WRITE: u8 = 4;
pub(super) const MMIO_MEMSET: u8 = 5;
const MSI: u8 = 7;

/// Largest access. The kernel's copy functions take what their callers ask for; no driver of this
/// NIC copies more.
pub(super) const MAX_SIZE: u32 = 1 << 20;

/// The message that raises an interrupt with this data.
pub(super) fn msi(data: u32) -> [u8; size_of::<Header>() + 4] {
    let header = Header {
        op: MSI,
        bar: 0,
        reserved: 0,
        size: 4,
        addr: 0,
    };
    let mut bytes = [0; size_of::<Header>() + 4];
    bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
    bytes[size_of::<Header>()..].copy_from_slice(&data.to_le_bytes());
    bytes
}
