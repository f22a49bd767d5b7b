// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Configuration space of a function.

mod builder;
mod regs;

use dlr_abi::abi;

pub use builder::{ConfigBuilder, Identity};
use regs::{
    COMMAND, COMMAND_BUS_MASTER, CONFIG_SIZE, PCIE_DEVCTL, PCIE_DEVCTL_FLR, PCIE_DEVSTA,
    PCIE_DEVSTA_RW1C,
};

/// BAR of the MSI-X table and pending bits of every function of this NIC.
pub const MSIX_BAR: u8 = 2;

/// What a write to configuration space asks the function to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteEffect {
    /// Reset the function.
    pub flr: bool,
    /// Bus mastering was switched on or off.
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
        .msix(vectors, MSIX_BAR)
        .dlr(serial, abi::DLR_DVSEC_FUNCTION_ROLE_MF)
        .serial_number(serial)
        .build()
    }

    /// Number of MSI-X vectors.
    pub fn vectors(&self) -> u16 {
        self.msix.map_or(0, |m| m.vectors)
    }

    /// Where MSI-X lies, if the function has it.
    pub fn msix(&self) -> Option<MsixLayout> {
        self.msix
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
        if self.bus_master() != master {
            effect.bus_master = Some(!master);
        }
        effect
    }

    /// Whether the function may start DMA.
    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0
    }

    /// Power-on values.
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.power_on[..]);
    }
}

#[cfg(test)]
mod tests;
