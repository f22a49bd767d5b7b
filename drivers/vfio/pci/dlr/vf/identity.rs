// SPDX-License-Identifier: GPL-2.0

//! Identity of a data function, from its DVSEC, and the part of it that is hidden from users.

use crate::{
    ext,
    proto::{
        dlr,
        dvsec::{
            FunctionWord,
            Header1,
            Header2, //
        },
        regs::VERSION, //
    },
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
            .is_some_and(|word| word != u32::MAX && FunctionWord::from_raw(word).is_management())
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
    /// management function. Otherwise those of [`PciFunction::config_read32`].
    pub(super) fn read(pdev: PciFunction<'_>) -> Result<Self> {
        // The look for the capability reads configuration space, too.
        let _awake = pdev.awake()?;
        let Some(dvsec) = find_dvsec(&*pdev) else {
            dev_err!(pdev, "no DVSEC of the DLR contract\n");
            return Err(ENODEV);
        };
        let word = |offset: u32| {
            let at = u32::from(dvsec).checked_add(offset).ok_or(EINVAL)?;
            pdev.config_read32(u16::try_from(at)?)
        };
        let major = Header2::from_raw(word(dlr::DLR_DVSEC_HEADER2)?).major();
        let length = Header1::from_raw(word(dlr::DLR_DVSEC_HEADER1)?).length();
        let ours = VERSION::from_raw(dlr::DLR_CONTRACT_VERSION).major();
        if major != ours || length.get() < dlr::DLR_DVSEC_LENGTH {
            dev_err!(pdev, "unknown contract version {}\n", major.get());
            return Err(ENODEV);
        }
        let function = FunctionWord::from_raw(word(dlr::DLR_DVSEC_FUNCTION)?);
        if function.is_management() {
            dev_err!(pdev, "this is a management function\n");
            return Err(ENODEV);
        }
        let (low, high) = (
            word(dlr::DLR_DVSEC_SERIAL_LO)?,
            word(dlr::DLR_DVSEC_SERIAL_HI)?,
        );
        Ok(Self {
            serial: u64::from(high) << 32 | u64::from(low),
            number: function.number().get(),
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

#[kunit_tests(dlr_identity)]
mod tests {
    use super::*;
    use crate::ext::testing::FakeFunction;

    const DSN_AT: u32 = 0x140;
    const DVSEC_AT: u32 = 0x180;

    /// The words of a DVSEC, with this major version, length and function word.
    fn dvsec(major: u32, length: u32, function: u32) -> [u32; 8] {
        [
            // PCI_EXT_CAP_ID_DVSEC, version 1, the last capability.
            0x0001_0023,
            dlr::DLR_DVSEC_VENDOR_ID | dlr::DLR_DVSEC_REVISION << 16 | length << 20,
            dlr::DLR_DVSEC_ID | major << 16,
            function,
            0x4444_3333,
            0x8888_7777,
            0,
            u32::MAX,
        ]
    }

    fn function(words: &[u32]) -> Result<FakeFunction> {
        let mut function = FakeFunction::new()?;
        function.set_config(0x100, &[DSN_AT << 20 | 0x0001_0001])?;
        function.set_config(
            DSN_AT as usize,
            &[DVSEC_AT << 20 | 0x1_0000 | u32::from(EXT_CAP_DSN), 1, 2],
        )?;
        function.set_config(DVSEC_AT as usize, words)?;
        Ok(function)
    }

    const MAJOR: u32 = dlr::DLR_CONTRACT_VERSION >> 16;
    const LENGTH: u32 = dlr::DLR_DVSEC_LENGTH;

    /// Serial and number are those of the DVSEC. The words that identify the function are hidden in
    /// ascending order. All reads have a runtime PM reference.
    #[test]
    fn an_identity_is_read_from_the_dvsec() -> Result {
        let function = function(&dvsec(MAJOR, LENGTH, 0xfffe))?;
        let identity = Identity::read(PciFunction::of_test(&function))?;
        assert_eq!(identity.serial, 0x8888_7777_4444_3333);
        assert_eq!(identity.number, 0xfffe);
        assert_eq!(
            &identity.hidden()?[..],
            [
                ConfigRange::new(DSN_AT + 4..DSN_AT + 12)?,
                ConfigRange::new(DVSEC_AT + 12..DVSEC_AT + 32)?,
            ]
        );
        assert_eq!(function.unguarded_reads(), 0);
        Ok(())
    }

    /// All ones in one of the nonce words means that the function may not have answered.
    #[test]
    fn a_nonce_that_reads_as_all_ones_is_unreadable() -> Result {
        let mut words = dvsec(MAJOR, LENGTH, 1);
        for (high, look) in [
            (u32::MAX, Look::Unreadable),
            (0x1111_2222, Look::Shows(0x1111_2222_9999_aaaa)),
        ] {
            words[6] = 0x9999_aaaa;
            words[7] = high;
            let function = function(&words)?;
            let pdev = PciFunction::of_test(&function);
            assert_eq!(Identity::read(pdev)?.nonce(pdev), look);
        }
        Ok(())
    }

    /// Another contract, a DVSEC without all words, a management function and no DVSEC.
    #[test]
    fn other_functions_are_refused() -> Result {
        let management = 1 | dlr::DLR_DVSEC_FUNCTION_ROLE_MF;
        for words in [
            dvsec(MAJOR + 1, LENGTH, 1),
            dvsec(MAJOR, LENGTH - 4, 1),
            dvsec(MAJOR, LENGTH, management),
            [0; 8],
        ] {
            let function = function(&words)?;
            let read = Identity::read(PciFunction::of_test(&function));
            assert_eq!(read.err(), Some(ENODEV));
            let found = Identity::is_management(function.bound());
            assert_eq!(found, words[3] == management);
        }
        Ok(())
    }
}
