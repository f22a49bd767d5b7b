// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Numbers of the virtio specification (1.3) and the layout of this function's BAR.

use dlr_abi::abi;
use dlr_pci::{
    config::{ConfigBuilder, Identity, MSIX_BAR},
    ConfigSpace,
};

/// BAR of all virtio structures, one page each: a guest may map them.
pub(crate) const BAR: u8 = 0;
const BAR_SIZE: u64 = 0x4000;
pub(crate) const COMMON: u64 = 0x0000;
pub(crate) const ISR: u64 = 0x1000;
pub(crate) const DEVICE: u64 = 0x2000;
pub(crate) const NOTIFY: u64 = 0x3000;
/// Bytes between the doorbells of two queues.
pub(crate) const NOTIFY_MULTIPLIER: u32 = 4;

pub(crate) const COMMON_LEN: usize = 0x38;
/// `struct virtio_net_config` up to `mtu`.
pub(crate) const DEVICE_LEN: usize = 12;

/// Receive, transmit, control.
pub(crate) const QUEUES: usize = 3;
pub(crate) const RX: usize = 0;
pub(crate) const TX: usize = 1;
pub(crate) const CTRL: usize = 2;
/// One for configuration changes and one for each queue.
pub(crate) const VECTORS: u16 = 1 + QUEUES as u16;
pub(crate) const NO_VECTOR: u16 = 0xffff;

pub(crate) const F_CSUM: u64 = 1 << 0;
pub(crate) const F_GUEST_CSUM: u64 = 1 << 1;
pub(crate) const F_CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
pub(crate) const F_MAC: u64 = 1 << 5;
pub(crate) const F_MRG_RXBUF: u64 = 1 << 15;
pub(crate) const F_STATUS: u64 = 1 << 16;
pub(crate) const F_CTRL_VQ: u64 = 1 << 17;
pub(crate) const F_CTRL_RX: u64 = 1 << 18;
pub(crate) const F_CTRL_MAC_ADDR: u64 = 1 << 23;
pub(crate) const F_INDIRECT_DESC: u64 = 1 << 28;
pub(crate) const F_EVENT_IDX: u64 = 1 << 29;
pub(crate) const F_VERSION_1: u64 = 1 << 32;
/// Addresses are IOVAs: a host driver must use its IOMMU.
pub(crate) const F_ACCESS_PLATFORM: u64 = 1 << 33;

/// Receive offloads that a driver may switch off and on.
pub(crate) const GUEST_OFFLOADS: u64 = F_GUEST_CSUM;

/// What the function offers. Another value needs another version of the state image.
pub(crate) const FEATURES: u64 = F_CSUM
    | F_GUEST_CSUM
    | F_CTRL_GUEST_OFFLOADS
    | F_MAC
    | F_MRG_RXBUF
    | F_STATUS
    | F_CTRL_VQ
    | F_CTRL_RX
    | F_CTRL_MAC_ADDR
    | F_INDIRECT_DESC
    | F_EVENT_IDX
    | F_VERSION_1
    | F_ACCESS_PLATFORM;

/// Whether a driver may run with `features` (virtio 1.3, 5.1.3.1 and 6).
pub(crate) fn features_usable(features: u64) -> bool {
    let needs_ctrl = F_CTRL_RX | F_CTRL_MAC_ADDR | F_CTRL_GUEST_OFFLOADS;
    features & !FEATURES == 0
        && features & F_VERSION_1 != 0
        && (features & needs_ctrl == 0 || features & F_CTRL_VQ != 0)
}

pub(crate) const STATUS_DRIVER_OK: u8 = 4;
pub(crate) const STATUS_FEATURES_OK: u8 = 8;
pub(crate) const STATUS_NEEDS_RESET: u8 = 0x40;
/// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED: what a driver may set.
pub(crate) const STATUS_OF_DRIVER: u8 = 0x8f;

pub(crate) const ISR_QUEUE: u8 = 1;
pub(crate) const ISR_CONFIG: u8 = 2;

pub(crate) const NET_S_LINK_UP: u16 = 1;

/// `struct virtio_net_hdr_v1`, before each frame.
pub(crate) const HDR_LEN: usize = 12;
pub(crate) const HDR_F_NEEDS_CSUM: u8 = 1;
pub(crate) const HDR_F_DATA_VALID: u8 = 2;
pub(crate) const HDR_GSO_NONE: u8 = 0;

/// Longest frame that travels, as [`dlr_core::WireRx::deliver`] says.
pub(crate) const MAX_FRAME: usize = 65_550;
/// An Ethernet header.
pub(crate) const MIN_FRAME: usize = 14;

pub(crate) const CTRL_CLASS_RX: u8 = 0;
pub(crate) const CTRL_RX_PROMISC: u8 = 0;
pub(crate) const CTRL_RX_ALLMULTI: u8 = 1;
pub(crate) const CTRL_CLASS_MAC: u8 = 1;
pub(crate) const CTRL_MAC_TABLE_SET: u8 = 0;
pub(crate) const CTRL_MAC_ADDR_SET: u8 = 1;
pub(crate) const CTRL_CLASS_GUEST_OFFLOADS: u8 = 5;
pub(crate) const CTRL_GUEST_OFFLOADS_SET: u8 = 0;
pub(crate) const CTRL_OK: u8 = 0;
pub(crate) const CTRL_ERR: u8 = 1;

const CAP_COMMON: u8 = 1;
const CAP_NOTIFY: u8 = 2;
const CAP_ISR: u8 = 3;
const CAP_DEVICE: u8 = 4;
/// A window to the BARs in configuration space.
pub(crate) const CAP_PCI_CFG: u8 = 5;

/// Body of a `struct virtio_pci_cap`, from `cfg_type` on.
fn cap(cfg_type: u8, offset: u64, length: usize) -> [u8; 13] {
    let mut body = [0; 13];
    body[0] = cfg_type;
    body[1] = BAR;
    body[5..9].copy_from_slice(&(offset as u32).to_le_bytes());
    body[9..13].copy_from_slice(&(length as u32).to_le_bytes());
    body
}

/// Configuration space of data function `number` of NIC `serial`.
pub fn pci_config(serial: u64, number: u16) -> ConfigSpace {
    let mut notify = cap(CAP_NOTIFY, NOTIFY, QUEUES * NOTIFY_MULTIPLIER as usize).to_vec();
    notify.extend_from_slice(&NOTIFY_MULTIPLIER.to_le_bytes());
    ConfigBuilder::new(&Identity {
        vendor: abi::DLR_PCI_VENDOR_ID as u16,
        device: abi::DLR_PCI_DEVICE_ID_DF as u16,
        // Network controller, Ethernet.
        class: 0x02_00_00,
        revision: 1,
    })
    .subsystem(
        abi::DLR_PCI_SUBSYSTEM_VENDOR_ID_DF as u16,
        abi::DLR_PCI_SUBSYSTEM_ID_DF as u16,
    )
    .bar(BAR, BAR_SIZE)
    .pcie()
    .power_management()
    .msix(VECTORS, MSIX_BAR)
    .vendor(&cap(CAP_COMMON, COMMON, COMMON_LEN))
    .vendor(&notify)
    .vendor(&cap(CAP_ISR, ISR, 1))
    .vendor(&cap(CAP_DEVICE, DEVICE, DEVICE_LEN))
    .vendor(&[&[CAP_PCI_CFG][..], &[0; 16]].concat())
    .dlr(
        serial,
        u32::from(number) & abi::DLR_DVSEC_FUNCTION_NUMBER_MASK,
    )
    .serial_number(serial)
    .aer()
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What keeps drivers of this contract away from other virtio-net functions.
    #[test]
    fn the_subsystem_is_our_own() {
        let mut ids = [0; 4];
        pci_config(1, 0).read(0x2c, &mut ids);
        assert_eq!(ids, [0xf4, 0x1a, 0xf1, 0x10]);
    }
}
