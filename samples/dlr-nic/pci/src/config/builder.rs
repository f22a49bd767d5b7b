// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Puts a configuration space together.

use dlr_abi::abi;

use super::{regs::*, ConfigSpace, MsixLayout};

/// What a function says it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor id, of the subsystem too unless [`ConfigBuilder::subsystem`] says otherwise.
    pub vendor: u16,
    /// Device id, as the vendor id.
    pub device: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// Builder of a [`ConfigSpace`]: capabilities are chained in the order of the calls.
#[derive(Debug)]
pub struct ConfigBuilder {
    space: ConfigSpace,
    /// Where the pointer to the next capability belongs, and the next free offset.
    link: usize,
    free: usize,
    /// Extended capability whose next pointer is still open, and the next free offset.
    ext_last: Option<usize>,
    ext_free: usize,
}

impl ConfigBuilder {
    /// A type 0 header without BARs and capabilities.
    pub fn new(identity: &Identity) -> Self {
        let mut this = Self {
            space: ConfigSpace {
                bytes: Box::new([0; CONFIG_SIZE]),
                power_on: Box::new([0; CONFIG_SIZE]),
                writable: Box::new([0; CONFIG_SIZE]),
                bars: [0; 6],
                pcie: None,
                pm: None,
                dvsec: None,
                msix: None,
            },
            link: CAPABILITIES,
            free: FIRST_CAP,
            ext_last: None,
            ext_free: FIRST_EXT_CAP,
        };
        this.put(VENDOR, &identity.vendor.to_le_bytes());
        this.put(DEVICE, &identity.device.to_le_bytes());
        this.put(SUBSYSTEM_VENDOR, &identity.vendor.to_le_bytes());
        this.put(SUBSYSTEM, &identity.device.to_le_bytes());
        this.put(REVISION, &[identity.revision]);
        this.put(CLASS, &identity.class.to_le_bytes()[..3]);
        this.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        this.allow(CACHE_LINE, &[0xff]);
        this.allow(INTERRUPT_LINE, &[0xff]);
        this
    }

    /// Other ids of the subsystem than those of the function.
    pub fn subsystem(mut self, vendor: u16, id: u16) -> Self {
        self.put(SUBSYSTEM_VENDOR, &vendor.to_le_bytes());
        self.put(SUBSYSTEM, &id.to_le_bytes());
        self
    }

    /// A 32-bit memory BAR of `size` bytes, a power of two of at least 16.
    pub fn bar(mut self, bar: u8, size: u64) -> Self {
        debug_assert!(size.is_power_of_two() && size >= 16 && bar < 6);
        self.space.bars[usize::from(bar)] = size;
        let mask = !(size as u32).wrapping_sub(1);
        self.allow(BAR0 + 4 * usize::from(bar), &mask.to_le_bytes());
        self
    }

    /// The PCI Express capability of an endpoint with function level reset.
    pub fn pcie(mut self) -> Self {
        let mut cap = [0; PCIE_LENGTH];
        cap[PCIE_FLAGS..][..2].copy_from_slice(&PCIE_FLAGS_ENDPOINT_V2.to_le_bytes());
        cap[PCIE_DEVCAP..][..4].copy_from_slice(&PCIE_DEVCAP_VALUE.to_le_bytes());
        cap[PCIE_DEVCTL..][..2].copy_from_slice(&PCIE_DEVCTL_VALUE.to_le_bytes());
        cap[PCIE_LNKCAP..][..4].copy_from_slice(&PCIE_LNKCAP_VALUE.to_le_bytes());
        cap[PCIE_LNKSTA..][..2].copy_from_slice(&PCIE_LNKSTA_VALUE.to_le_bytes());
        let at = self.capability(CAP_PCIE, &cap);
        self.allow(at + PCIE_DEVCTL, &PCIE_DEVCTL_WRITABLE.to_le_bytes());
        self.space.pcie = Some(at as u16);
        self
    }

    /// The Power Management capability, mandatory for a PCI Express function that is no virtual
    /// function: D0 and D3hot, without a reset on the way back.
    pub fn power_management(mut self) -> Self {
        let mut cap = [0; PM_LENGTH];
        cap[PM_CAPABILITIES..][..2].copy_from_slice(&PM_CAPABILITIES_VALUE.to_le_bytes());
        cap[PM_CONTROL..][..2].copy_from_slice(&PM_CONTROL_VALUE.to_le_bytes());
        let at = self.capability(CAP_PM, &cap);
        self.allow(at + PM_CONTROL, &[PM_STATE]);
        self.space.pm = Some(at as u16);
        self
    }

    /// MSI-X with `vectors` vectors, in a BAR of its own: table first, pending bits in the
    /// next page.
    pub fn msix(mut self, vectors: u16, bar: u8) -> Self {
        debug_assert!((1..=2048).contains(&vectors));
        let pba = (u64::from(vectors) * MSIX_ENTRY).next_multiple_of(4096);
        let mut cap = [0; MSIX_LENGTH];
        cap[MSIX_CONTROL..][..2].copy_from_slice(&(vectors.saturating_sub(1)).to_le_bytes());
        cap[MSIX_TABLE..][..4].copy_from_slice(&u32::from(bar).to_le_bytes());
        cap[MSIX_PBA..][..4].copy_from_slice(&(pba as u32 | u32::from(bar)).to_le_bytes());
        let at = self.capability(CAP_MSIX, &cap);
        self.allow(at + MSIX_CONTROL, &MSIX_CONTROL_WRITABLE.to_le_bytes());
        self.space.msix = Some(MsixLayout { bar, vectors, pba });
        self.bar(bar, (pba + 4096).next_power_of_two())
    }

    /// A vendor-specific capability; `body` follows the length byte.
    pub fn vendor(mut self, body: &[u8]) -> Self {
        let mut cap = vec![0, 0, (body.len() + 3) as u8];
        cap.extend_from_slice(body);
        self.capability(CAP_VENDOR, &cap);
        self
    }

    /// The DVSEC of the contract: `function` holds number and role (`DLR_DVSEC_FUNCTION`).
    /// It shows no nonce yet, and nothing in it can be written by the host.
    pub fn dlr(mut self, serial: u64, function: u32) -> Self {
        let header1 =
            abi::DLR_DVSEC_VENDOR_ID | abi::DLR_DVSEC_REVISION << 16 | abi::DLR_DVSEC_LENGTH << 20;
        let header2 = abi::DLR_DVSEC_ID | abi::DLR_CONTRACT_VERSION & 0xffff_0000;
        let mut body = [0; abi::DLR_DVSEC_LENGTH as usize - 4];
        for (offset, value) in [
            (abi::DLR_DVSEC_HEADER1, header1),
            (abi::DLR_DVSEC_HEADER2, header2),
            (abi::DLR_DVSEC_FUNCTION, function),
            (abi::DLR_DVSEC_SERIAL_LO, serial as u32),
            (abi::DLR_DVSEC_SERIAL_HI, (serial >> 32) as u32),
        ] {
            body[offset as usize - 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        let at = self.extended(EXT_CAP_DVSEC, 1, &body);
        self.space.dvsec = Some(at);
        self
    }

    /// The Advanced Error Reporting capability. This NIC never finds an error: status and
    /// header log stay zero.
    pub fn aer(mut self) -> Self {
        let mut cap = [0; AER_LENGTH];
        cap[AER_UNCOR_SEVERITY..][..4].copy_from_slice(&AER_UNCOR_SEVERITY_VALUE.to_le_bytes());
        cap[AER_COR_MASK..][..4].copy_from_slice(&AER_COR_MASK_VALUE.to_le_bytes());
        let at = self.extended(EXT_CAP_AER, 2, &cap[4..]);
        for offset in [AER_UNCOR_MASK, AER_UNCOR_SEVERITY] {
            self.allow(at + offset, &AER_UNCOR_WRITABLE.to_le_bytes());
        }
        self.allow(at + AER_COR_MASK, &AER_COR_WRITABLE.to_le_bytes());
        self
    }

    /// The Device Serial Number capability.
    pub fn serial_number(mut self, serial: u64) -> Self {
        self.extended(EXT_CAP_SERIAL, 1, &serial.to_le_bytes());
        self
    }

    /// Done; the state so far is the power-on state.
    pub fn build(mut self) -> ConfigSpace {
        if self.link != CAPABILITIES {
            self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        }
        self.space.power_on.copy_from_slice(&self.space.bytes[..]);
        self.space
    }

    /// Appends a capability; the first two bytes of `cap` are filled in here.
    fn capability(&mut self, id: u8, cap: &[u8]) -> usize {
        let at = self.free;
        debug_assert!(at + cap.len() <= FIRST_EXT_CAP);
        self.put(at, cap);
        self.put(at, &[id, 0]);
        self.put(self.link, &[at as u8]);
        self.link = at + 1;
        self.free = (at + cap.len()).next_multiple_of(4);
        at
    }

    /// Appends an extended capability; `body` follows its header.
    fn extended(&mut self, id: u16, version: u32, body: &[u8]) -> usize {
        let at = self.ext_free;
        debug_assert!(at + 4 + body.len() <= CONFIG_SIZE);
        self.put(at, &(u32::from(id) | version << 16).to_le_bytes());
        self.put(at + 4, body);
        if let Some(last) = self.ext_last {
            // Bits 31:20 of the header: the next capability.
            let next = (at as u16) << 4;
            let version = self.space.bytes[last + 2] & 0x0f;
            self.put(last + 2, &(next | u16::from(version)).to_le_bytes());
        }
        self.ext_last = Some(at);
        self.ext_free = (at + 4 + body.len()).next_multiple_of(16);
        at
    }

    fn put(&mut self, at: usize, data: &[u8]) {
        self.space.bytes[at..at + data.len()].copy_from_slice(data);
    }

    fn allow(&mut self, at: usize, mask: &[u8]) {
        self.space.writable[at..at + mask.len()].copy_from_slice(mask);
    }
}
