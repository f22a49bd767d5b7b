// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Configuration space of a function.

mod builder;
mod regs;

use dlr_abi::abi;

pub use builder::{ConfigBuilder, Identity};
use regs::{
    BAR0, CAPABILITIES, CAP_MSIX, COMMAND, COMMAND_BUS_MASTER, CONFIG_SIZE, MSIX_CONTROL,
    PCIE_DEVCTL, PCIE_DEVCTL_FLR, PCIE_DEVSTA, PCIE_DEVSTA_RW1C, PM_CONTROL, PM_D3HOT, PM_STATE,
};

/// BAR of the MSI-X table and pending bits of every function of this NIC.
pub const MSIX_BAR: u8 = 2;

/// What a write to configuration space asks the function to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteEffect {
    /// Reset the function.
    pub flr: bool,
    /// DMA and interrupts were allowed or forbidden: by the Bus Master bit or the power state.
    pub bus_master: Option<bool>,
}

/// Where MSI-X lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixLayout {
    /// BAR of table and pending bits.
    pub bar: u8,
    /// Number of vectors.
    pub vectors: u16,
    /// Offset of the pending bit array in the BAR.
    pub pba: u64,
}

/// The 4 KiB of configuration space of one function, and which of its bits can be written.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: Box<[u8; CONFIG_SIZE]>,
    power_on: Box<[u8; CONFIG_SIZE]>,
    writable: Box<[u8; CONFIG_SIZE]>,
    bars: [u64; 6],
    pcie: Option<u16>,
    pm: Option<u16>,
    /// Offset of the contract's DVSEC.
    dvsec: Option<usize>,
    msix: Option<MsixLayout>,
}

impl ConfigSpace {
    /// Configuration space of the management function of NIC `serial`.
    pub fn management(serial: u64, vectors: u16) -> Self {
        ConfigBuilder::new(&Identity {
            vendor: abi::DLR_PCI_VENDOR_ID as u16,
            device: abi::DLR_PCI_DEVICE_ID_MF as u16,
            // Other system peripheral.
            class: 0x08_80_00,
            revision: 1,
        })
        .bar(abi::DLR_MF_BAR as u8, u64::from(abi::DLR_MF_BAR_SIZE))
        .pcie()
        .power_management()
        .msix(vectors, MSIX_BAR)
        .dlr(serial, abi::DLR_DVSEC_FUNCTION_ROLE_MF)
        .serial_number(serial)
        .aer()
        .build()
    }

    /// Id and offset of each capability of the first 256 bytes.
    pub fn capabilities(&self) -> impl Iterator<Item = (u8, u16)> + '_ {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        let mut at = usize::from(byte(CAPABILITIES));
        std::iter::from_fn(move || {
            let found = (at != 0).then(|| (byte(at), at as u16));
            at = usize::from(byte(at + 1));
            found
        })
    }

    /// Number of MSI-X vectors.
    pub fn vectors(&self) -> u16 {
        self.msix.map_or(0, |m| m.vectors)
    }

    /// Where MSI-X lies, if the function has it.
    pub fn msix(&self) -> Option<MsixLayout> {
        self.msix
    }

    /// Adds a 32-bit memory BAR of `size` bytes, a power of two of at least 16.
    pub(crate) fn add_bar(&mut self, bar: u8, size: u64) {
        let at = BAR0 + 4 * usize::from(bar);
        let mask = !(size as u32).wrapping_sub(1);
        if let (Some(known), Some(writable)) = (
            self.bars.get_mut(usize::from(bar)),
            self.writable.get_mut(at..at + 4),
        ) {
            *known = size;
            writable.copy_from_slice(&mask.to_le_bytes());
        }
    }

    /// Message control of the MSI-X capability, if the function has it.
    pub(crate) fn msix_control(&self) -> Option<u16> {
        let (_, at) = self.capabilities().find(|(id, _)| *id == CAP_MSIX)?;
        let at = usize::from(at) + MSIX_CONTROL;
        let bytes = self.bytes.get(at..at + 2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Size of a BAR, 0 when there is none.
    pub fn bar_size(&self, bar: u8) -> u64 {
        self.bars.get(usize::from(bar)).copied().unwrap_or(0)
    }

    /// Fills `data` from `offset`; bytes beyond the end read as ones.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (byte, at) in data.iter_mut().zip(usize::from(offset)..) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Stores the writable bits of `data` at `offset`.
    pub fn write(&mut self, offset: u16, data: &[u8]) -> WriteEffect {
        let master = self.bus_master();
        let power = self.power_state();
        let mut effect = WriteEffect::default();
        for (&value, at) in data.iter().zip(usize::from(offset)..) {
            let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) else {
                break;
            };
            *byte = *byte & !mask | value & mask;
            let Some(in_pcie) = self.pcie.and_then(|cap| at.checked_sub(usize::from(cap))) else {
                continue;
            };
            if in_pcie == PCIE_DEVCTL + 1 && value & PCIE_DEVCTL_FLR != 0 {
                effect.flr = true;
            } else if in_pcie == PCIE_DEVSTA {
                *byte &= !(value & PCIE_DEVSTA_RW1C);
            }
        }
        self.keep_power_state(power);
        if self.bus_master() != master {
            effect.bus_master = Some(!master);
        }
        effect
    }

    /// Whether the function may start DMA and raise interrupts.
    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0 && self.powered()
    }

    /// Whether the function is in D0: in D3hot only its configuration space answers.
    pub fn powered(&self) -> bool {
        self.power_state() == 0
    }

    fn power_state(&self) -> u8 {
        let control = self.pm.map(|cap| usize::from(cap) + PM_CONTROL);
        let control = control.and_then(|at| self.bytes.get(at));
        control.map_or(0, |byte| byte & PM_STATE)
    }

    /// A write of a state that does not exist (D1, D2) leaves the function in its old one
    /// (PCI Express Base Specification 6.0, 7.5.2.2).
    fn keep_power_state(&mut self, old: u8) {
        let state = self.power_state();
        let control = self.pm.map(|cap| usize::from(cap) + PM_CONTROL);
        if let (false, Some(byte)) = (
            [0, PM_D3HOT].contains(&state),
            control.and_then(|at| self.bytes.get_mut(at)),
        ) {
            *byte = *byte & !PM_STATE | old;
        }
    }

    /// Shows `nonce` in the contract's DVSEC until the next reset; nothing without a DVSEC.
    pub fn set_nonce(&mut self, nonce: u64) {
        let Some(dvsec) = self.dvsec else { return };
        let at = dvsec + abi::DLR_DVSEC_NONCE_LO as usize;
        if let Some(words) = self.bytes.get_mut(at..at + 8) {
            words.copy_from_slice(&nonce.to_le_bytes());
        }
    }

    /// Power-on values.
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.power_on[..]);
    }
}

// The nonce's two words are one little-endian number.
const _: () = assert!(abi::DLR_DVSEC_NONCE_HI == abi::DLR_DVSEC_NONCE_LO + 4);

#[cfg(test)]
mod tests;
