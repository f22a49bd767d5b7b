// SPDX-License-Identifier: GPL-2.0

//! Identity of a data function, from its DVSEC, and the part of it that is hidden from users.

use crate::{
    ext,
    proto::dlr,
    vfio::{
        config_space::ConfigRange,
        DeviceId,
        PciFunction, //
    }, //
};
use kernel::{
    device::DeviceContext,
    pci,
    prelude::*, //
};

/// Id of the data functions of the reference NIC. Another vendor adds its own ids to the table:
/// pairing depends on the DVSEC alone.
///
/// The device id is that of every modern virtio-net function. The subsystem id sets this function
/// apart from the others, which must not match because `virtio_vfio_pci` claims them.
pub(super) const ID: DeviceId = DeviceId::with_subsystem(
    dlr::DLR_PCI_VENDOR_ID,
    dlr::DLR_PCI_DEVICE_ID_DF,
    dlr::DLR_PCI_SUBSYSTEM_VENDOR_ID_DF,
    dlr::DLR_PCI_SUBSYSTEM_ID_DF,
);

/// PCIe extended capability id of the Device Serial Number.
const EXT_CAP_DSN: u16 = 0x0003;

/// Contents of the nonce words of a data function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// The words read as this value.
    Shows(u64),
    /// One of the words reads as all ones, or the read failed: the function is in a reset or in D3.
    Unreadable,
}

/// Contents of the DVSEC of a data function.
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
    /// Returns whether `pdev` carries a DVSEC of the contract with the role "management function".
    pub(super) fn is_management<C: DeviceContext>(pdev: &pci::Device<C>) -> bool {
        find_dvsec(pdev)
            .and_then(|dvsec| u32::from(dvsec).checked_add(dlr::DLR_DVSEC_FUNCTION))
            .and_then(|at| u16::try_from(at).ok())
            .and_then(|at| ext::pci::read_config_any(pdev, at))
            .is_some_and(|word| word != u32::MAX && word & dlr::DLR_DVSEC_FUNCTION_ROLE_MF != 0)
    }

    /// Reads the nonce words.
    pub(super) fn nonce(&self, pdev: PciFunction<'_>) -> Look {
        let word = |offset: u32| {
            let at = u32::from(self.dvsec).checked_add(offset)?;
            ext::pci::read_config_any(&*pdev, u16::try_from(at).ok()?)
        };
        let low = word(dlr::DLR_DVSEC_NONCE_LO);
        let high = word(dlr::DLR_DVSEC_NONCE_HI);
        match (low, high) {
            (Some(low), Some(high)) if low != u32::MAX && high != u32::MAX => {
                Look::Shows(u64::from(high) << 32 | u64::from(low))
            }
            _ => Look::Unreadable,
        }
    }

    /// Reads the DVSEC of `pdev`.
    ///
    /// # Errors
    ///
    /// `ENODEV` if `pdev` carries no DVSEC of the contract, or one of an unknown version or of a
    /// management function. Otherwise the error of the config access.
    pub(super) fn read(pdev: PciFunction<'_>) -> Result<Self> {
        let Some(dvsec) = find_dvsec(&*pdev) else {
            dev_err!(pdev, "no DVSEC of the DLR contract\n");
            return Err(ENODEV);
        };
        let word = |offset: u32| {
            let at = u32::from(dvsec).checked_add(offset).ok_or(EINVAL)?;
            ext::pci::read_config_dword(&*pdev, u16::try_from(at)?)
        };
        let major = word(dlr::DLR_DVSEC_HEADER2)? >> 16;
        let length = word(dlr::DLR_DVSEC_HEADER1)? >> 20;
        if major != dlr::DLR_CONTRACT_VERSION >> 16 || length < dlr::DLR_DVSEC_LENGTH {
            dev_err!(pdev, "unknown contract version {}\n", major);
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
            dsn: ext::pci::find_ext_capability(&*pdev, EXT_CAP_DSN),
        })
    }

    /// Returns the words of configuration space that differ between two NICs of one model. The
    /// layer hides them from the user.
    ///
    /// VMMs compare configuration space across hosts at the very end of a migration.
    pub(super) fn hidden(&self) -> Result<KVec<ConfigRange>> {
        let mut ranges = KVec::new();
        let dvsec = u32::from(self.dvsec);
        // OVERFLOW: Capabilities are within the 4 KiB of configuration space.
        let identity = dvsec + dlr::DLR_DVSEC_IDENTITY..dvsec + dlr::DLR_DVSEC_LENGTH;
        let dsn = self.dsn.map(|at| u32::from(at) + 4..u32::from(at) + 12);
        // In ascending order.
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

/// Returns the offset of the DVSEC of the contract in configuration space.
fn find_dvsec<C: DeviceContext>(pdev: &pci::Device<C>) -> Option<u16> {
    ext::pci::find_dvsec(
        pdev,
        dlr::DLR_DVSEC_VENDOR_ID as u16,
        dlr::DLR_DVSEC_ID as u16,
    )
}
