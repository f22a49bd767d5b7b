// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Offsets and bits of configuration space (PCI Express Base Specification 6.0, 7.5 – 7.9).

pub(super) const CONFIG_SIZE: usize = 4096;

pub(super) const VENDOR: usize = 0x00;
pub(super) const DEVICE: usize = 0x02;
pub(super) const COMMAND: usize = 0x04;
pub(super) const STATUS: usize = 0x06;
pub(super) const REVISION: usize = 0x08;
pub(super) const CLASS: usize = 0x09;
pub(super) const CACHE_LINE: usize = 0x0c;
pub(super) const BAR0: usize = 0x10;
pub(super) const SUBSYSTEM_VENDOR: usize = 0x2c;
pub(super) const SUBSYSTEM: usize = 0x2e;
pub(super) const CAPABILITIES: usize = 0x34;
pub(super) const INTERRUPT_LINE: usize = 0x3c;
pub(super) const FIRST_CAP: usize = 0x40;
pub(super) const FIRST_EXT_CAP: usize = 0x100;

pub(super) const COMMAND_BUS_MASTER: u8 = 0x04;
/// Memory space, bus master, parity error response, SERR, INTx disable.
pub(super) const COMMAND_WRITABLE: u16 = 0x0546;
pub(super) const STATUS_CAPABILITIES: u16 = 0x0010;

pub(super) const CAP_PM: u8 = 0x01;
pub(super) const CAP_VENDOR: u8 = 0x09;
pub(super) const CAP_PCIE: u8 = 0x10;
pub(super) const CAP_MSIX: u8 = 0x11;
pub(super) const EXT_CAP_AER: u16 = 0x0001;
pub(super) const EXT_CAP_SERIAL: u16 = 0x0003;
pub(super) const EXT_CAP_DVSEC: u16 = 0x0023;

pub(super) const PCIE_LENGTH: usize = 0x3c;
pub(super) const PCIE_FLAGS: usize = 0x02;
pub(super) const PCIE_DEVCAP: usize = 0x04;
pub(super) const PCIE_DEVCTL: usize = 0x08;
pub(super) const PCIE_DEVSTA: usize = 0x0a;
pub(super) const PCIE_LNKCAP: usize = 0x0c;
pub(super) const PCIE_LNKSTA: usize = 0x12;
/// Capability version 2, PCI Express endpoint.
pub(super) const PCIE_FLAGS_ENDPOINT_V2: u16 = 0x0002;
/// Role-based error reporting, function level reset.
pub(super) const PCIE_DEVCAP_VALUE: u32 = 1 << 15 | 1 << 28;
/// Error reporting, relaxed ordering, no snoop, read request size. The function offers no larger
/// payload, no extended tags, no phantom functions and no auxiliary power, so those bits read as
/// zero, and so does the FLR bit.
pub(super) const PCIE_DEVCTL_WRITABLE: u16 = 0x781f;
/// After a reset: relaxed ordering and no snoop on, read requests of 512 bytes (7.5.3.4).
pub(super) const PCIE_DEVCTL_VALUE: u16 = 0x2810;
/// In the upper byte of DevCtl.
pub(super) const PCIE_DEVCTL_FLR: u8 = 0x80;
pub(super) const PCIE_DEVSTA_RW1C: u8 = 0x0f;
/// 2.5 GT/s, one lane.
pub(super) const PCIE_LNKCAP_VALUE: u32 = 0x11;
pub(super) const PCIE_LNKSTA_VALUE: u16 = 0x11;

pub(super) const PM_LENGTH: usize = 8;
pub(super) const PM_CAPABILITIES: usize = 0x02;
pub(super) const PM_CONTROL: usize = 0x04;
/// Version 3; D1, D2 and PME# do not exist.
pub(super) const PM_CAPABILITIES_VALUE: u16 = 0x0003;
/// No_Soft_Reset: the way from D3hot to D0 keeps all state.
pub(super) const PM_CONTROL_VALUE: u16 = 0x0008;
/// PowerState.
pub(super) const PM_STATE: u8 = 0x03;
pub(super) const PM_D3HOT: u8 = 0x03;

pub(super) const AER_LENGTH: usize = 0x48;
pub(super) const AER_UNCOR_MASK: usize = 0x08;
pub(super) const AER_UNCOR_SEVERITY: usize = 0x0c;
pub(super) const AER_COR_MASK: usize = 0x14;
/// Fatal by default: data link protocol, surprise down, flow control protocol, receiver
/// overflow, malformed TLP, uncorrectable internal error.
pub(super) const AER_UNCOR_SEVERITY_VALUE: u32 = 0x0046_2030;
/// The errors that can be masked and graded.
pub(super) const AER_UNCOR_WRITABLE: u32 = 0x0046_2030 | 0x0011_d000;
/// Masked by default: advisory non-fatal errors.
pub(super) const AER_COR_MASK_VALUE: u32 = 0x2000;
pub(super) const AER_COR_WRITABLE: u32 = 0x31c1;

pub(super) const MSIX_LENGTH: usize = 0x0c;
pub(super) const MSIX_CONTROL: usize = 0x02;
pub(super) const MSIX_TABLE: usize = 0x04;
pub(super) const MSIX_PBA: usize = 0x08;
pub(super) const MSIX_CONTROL_WRITABLE: u16 = 0xc000;
/// Bytes of one vector in the table.
pub(super) const MSIX_ENTRY: u64 = 16;
