// SPDX-License-Identifier: GPL-2.0

//! Which function of which NIC this is, and what of that a user must not see.

use crate::{
    bindings::dlr,
    kext,
    vfio::config_space::ConfigRange, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

/// The reference NIC. Another vendor adds its own ids to the table: pairing depends on
/// the DVSEC alone.
pub(super) const VENDOR: u32 = dlr::DLR_PCI_VENDOR_ID;
/// See [`VENDOR`].
pub(super) const DEVICE: u32 = dlr::DLR_PCI_DEVICE_ID_DF;

/// PCIe extended capability: Device Serial Number.
const EXT_CAP_DSN: u16 = 0x0003;

/// What the DVSEC says.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    /// Serial number of the NIC.
    pub(super) serial: u64,
    /// Number of the data function.
    pub(super) number: u32,
    dvsec: u16,
    dsn: Option<u16>,
}

impl Identity {
    /// Reads the DVSEC of `pdev`.
    ///
    /// # Errors
    ///
    /// `ENODEV`: no DVSEC of the contract, of a version this driver does not know, or
    /// of a management function. `EIO`: the device does not answer.
    pub(super) fn read(pdev: &pci::Device<Bound>) -> Result<Self> {
        let dvsec = kext::pci::find_dvsec(
            pdev,
            dlr::DLR_DVSEC_VENDOR_ID as u16,
            dlr::DLR_DVSEC_ID as u16,
        );
        let Some(dvsec) = dvsec else {
            dev_err!(pdev, "no DVSEC of the DLR contract\n");
            return Err(ENODEV);
        };
        let word = |offset: u32| {
            let at = u32::from(dvsec).checked_add(offset).ok_or(EINVAL)?;
            kext::pci::read_config_dword(pdev, u16::try_from(at)?)
        };
        let major = word(dlr::DLR_DVSEC_HEADER2)? >> 16;
        let length = word(dlr::DLR_DVSEC_HEADER1)? >> 20;
        if major != dlr::DLR_CONTRACT_VERSION >> 16 || length < dlr::DLR_DVSEC_LENGTH {
            dev_err!(pdev, "contract version {} is not known\n", major);
            return Err(ENODEV);
        }
        let function = word(dlr::DLR_DVSEC_FUNCTION)?;
        if function & dlr::DLR_DVSEC_FUNCTION_ROLE_MF != 0 {
            dev_err!(pdev, "this is a management function\n");
            return Err(ENODEV);
        }
        let (low, high) = (
            word(dlr::DLR_DVSEC_SERIAL_LO)?,
            word(dlr::DLR_DVSEC_SERIAL_HI)?,
        );
        Ok(Self {
            serial: u64::from(high) << 32 | u64::from(low),
            number: function & dlr::DLR_DVSEC_FUNCTION_NUMBER_MASK,
            dvsec,
            dsn: kext::pci::find_ext_capability(pdev, EXT_CAP_DSN),
        })
    }

    /// The words of configuration space that differ between two NICs of one model.
    ///
    /// VMMs compare configuration space across hosts, at the very end of a migration.
    pub(super) fn hidden(&self) -> Result<KVec<ConfigRange>> {
        let mut ranges = KVec::new();
        let dvsec = u32::from(self.dvsec);
        // OVERFLOW: capabilities lie in 4 KiB of configuration space.
        let identity = dvsec + dlr::DLR_DVSEC_IDENTITY..dvsec + dlr::DLR_DVSEC_LENGTH;
        let dsn = self.dsn.map(|at| u32::from(at) + 4..u32::from(at) + 12);
        // Ascending.
        let all = match dsn {
            Some(dsn) if dsn.start < identity.start => [Some(dsn), Some(identity)],
            dsn => [Some(identity), dsn],
        };
        for range in all.into_iter().flatten() {
            ranges.push(ConfigRange::new(range)?, GFP_KERNEL)?;
        }
        Ok(ranges)
    }
}
