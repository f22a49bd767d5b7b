// SPDX-License-Identifier: GPL-2.0

//! Answers of the IDENTIFY commands ("Answers of IDENTIFY" in `include/uapi/linux/dlr.h`).

use super::{
    regs,
    LOG_RING_ORDERS,
    PAGE_SHIFT, //
};
use crate::proto::dlr;
use kernel::{
    impl_flags,
    prelude::*, //
};

/// Size in bytes of the answer to IDENTIFY_NIC.
pub(crate) const NIC_SIZE: usize = size_of::<dlr::dlr_identify_nic>();
/// Size in bytes of the answer to IDENTIFY_FN.
pub(crate) const FN_SIZE: usize = size_of::<dlr::dlr_identify_fn>();

impl_flags!(
    /// Capabilities of a data function (`DLR_FN_CAP_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Caps(u32);

    /// One capability of a data function.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Cap {
        /// Dirty logging.
        Log = dlr::DLR_FN_CAP_LOG,
        /// SUSPEND and RESUME to `Stopped`, and save and load sessions.
        State = dlr::DLR_FN_CAP_STATE,
        /// `RunningP2p` is a state of its own.
        P2p = dlr::DLR_FN_CAP_P2P,
        /// SAVE_READ while the function runs.
        Precopy = dlr::DLR_FN_CAP_PRECOPY,
        /// The status page.
        StatusPage = dlr::DLR_FN_CAP_STATUS_PAGE,
        /// Holding DMA back at a full log ring.
        Hold = dlr::DLR_FN_CAP_HOLD,
    }
);

/// Identity of a NIC (`struct dlr_identify_nic`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NicInfo {
    /// Contract version of the device.
    pub(crate) version: u32,
    /// Number of data functions.
    pub(crate) num_functions: u32,
    /// Serial that pairs the functions of one NIC.
    pub(crate) serial: u64,
    /// Name of the model: UTF-8, padded with zeros.
    pub(crate) model: [u8; 32],
    /// Version of the firmware: UTF-8, padded with zeros.
    pub(crate) firmware: [u8; 16],
}

impl NicInfo {
    /// Decodes the answer to IDENTIFY_NIC.
    pub(crate) fn decode(bytes: [u8; NIC_SIZE]) -> Self {
        let raw: dlr::dlr_identify_nic = zerocopy::transmute!(bytes);
        Self {
            version: raw.version,
            num_functions: raw.num_functions,
            serial: raw.serial,
            model: raw.model,
            firmware: raw.firmware,
        }
    }
}

/// Returns the text before the padding, or an empty string if it is not UTF-8.
pub(crate) fn text(padded: &[u8]) -> &str {
    let end = padded.iter().position(|&b| b == 0).unwrap_or(padded.len());
    padded
        .get(..end)
        .and_then(|s| core::str::from_utf8(s).ok())
        .unwrap_or("")
}

/// Capabilities and limits of a data function (`struct dlr_identify_fn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FnInfo {
    /// Capabilities.
    pub(crate) caps: Caps,
    /// Smallest granule of a log, log2 of bytes.
    pub(crate) page_shift_min: u32,
    /// Largest granule of a log, log2 of bytes.
    pub(crate) page_shift_max: u32,
    /// Smallest log ring, log2 of entries.
    pub(crate) ring_order_min: u32,
    /// Largest log ring, log2 of entries.
    pub(crate) ring_order_max: u32,
    /// Number of ranges that the device can track at a time.
    pub(crate) max_ranges: u32,
    /// Width of an IOVA: a range must end at or below `1 << iova_bits`.
    pub(crate) iova_bits: u32,
    /// Compatibility id: streams are exchangeable between functions with equal ids.
    pub(crate) compat: [u8; 16],
    /// Oldest version of a stream that LOAD accepts.
    pub(crate) state_version_min: u32,
    /// Version that SAVE writes, and the newest that LOAD accepts.
    pub(crate) state_version: u32,
    /// Length in bytes of the longest stream of the function.
    pub(crate) max_state_bytes: u64,
}

impl FnInfo {
    /// Decodes the answer to IDENTIFY_FN and checks its limits against the contract.
    ///
    /// # Errors
    ///
    /// `EPROTO` if a limit is outside the contract.
    pub(crate) fn decode(bytes: [u8; FN_SIZE]) -> Result<Self> {
        let raw: dlr::dlr_identify_fn = zerocopy::transmute!(bytes);
        let info = Self {
            caps: Caps(raw.caps & Caps::all_bits()),
            page_shift_min: raw.page_shift_min.into(),
            page_shift_max: raw.page_shift_max.into(),
            ring_order_min: raw.ring_order_min.into(),
            ring_order_max: raw.ring_order_max.into(),
            max_ranges: raw.max_ranges.into(),
            iova_bits: raw.iova_bits.into(),
            compat: raw.compat,
            state_version_min: raw.state_version_min,
            state_version: raw.state_version,
            max_state_bytes: raw.max_state_bytes,
        };
        if info.is_sane() {
            Ok(info)
        } else {
            Err(EPROTO)
        }
    }

    /// Returns whether a function that was registered with VFIO as `self` can continue as `other`.
    /// VFIO takes the capabilities at registration, and streams of another model cannot be loaded.
    pub(crate) fn is_interchangeable(&self, other: &Self) -> bool {
        self.caps == other.caps && self.compat == other.compat
    }

    /// Returns whether the limits are within the contract.
    fn is_sane(&self) -> bool {
        let log = !self.caps.contains(Cap::Log)
            || ((PAGE_SHIFT..64).contains(&self.page_shift_min)
                && (self.page_shift_min..64).contains(&self.page_shift_max)
                && LOG_RING_ORDERS.contains(&self.ring_order_min)
                && LOG_RING_ORDERS.contains(&self.ring_order_max)
                && self.ring_order_min <= self.ring_order_max
                && self.max_ranges >= 4
                && (self.page_shift_max..=64).contains(&self.iova_bits));
        let state = !self.caps.contains(Cap::State)
            || (self.state_version_min <= self.state_version && self.max_state_bytes != 0);
        log && state
    }
}

/// Returns whether functions may be paired by this serial. A NIC whose serial was never programmed
/// has 0 or all ones ("Pairing" in `dlr-contract.rst`).
pub(crate) fn is_programmed(serial: u64) -> bool {
    serial != 0 && serial != u64::MAX
}

/// Returns whether the answer to IDENTIFY_NIC agrees with the registers.
pub(crate) fn is_same_nic(nic: &NicInfo, serial: u64, num_functions: u32) -> bool {
    nic.serial == serial
        && nic.num_functions == num_functions
        && regs::VERSION::from_raw(nic.version).is_known()
}

#[kunit_tests(dlr_proto_identify)]
mod tests {
    use super::*;

    fn sample() -> dlr::dlr_identify_fn {
        dlr::dlr_identify_fn {
            caps: 0x1f,
            page_shift_min: 12,
            page_shift_max: 21,
            ring_order_min: 4,
            ring_order_max: 19,
            max_ranges: 16,
            iova_bits: 48,
            compat: [1; 16],
            state_version_min: 1,
            state_version: 2,
            max_state_bytes: 1 << 20,
            reserved: [0; 2],
        }
    }

    #[test]
    fn function_limits() -> Result {
        let good = sample();
        let info = FnInfo::decode(zerocopy::transmute!(good))?;
        assert_eq!(info.page_shift_max, 21);
        assert!(info.caps.contains(Cap::P2p));
        for spoil in [
            |raw: &mut dlr::dlr_identify_fn| raw.page_shift_min = 11,
            |raw: &mut dlr::dlr_identify_fn| raw.page_shift_max = 11,
            |raw: &mut dlr::dlr_identify_fn| raw.ring_order_max = 20,
            |raw: &mut dlr::dlr_identify_fn| raw.ring_order_min = 3,
            |raw: &mut dlr::dlr_identify_fn| raw.max_ranges = 3,
            |raw: &mut dlr::dlr_identify_fn| raw.iova_bits = 65,
            |raw: &mut dlr::dlr_identify_fn| raw.max_state_bytes = 0,
            |raw: &mut dlr::dlr_identify_fn| raw.state_version_min = 3,
        ] {
            let mut raw = sample();
            spoil(&mut raw);
            assert!(FnInfo::decode(zerocopy::transmute!(raw)).is_err());
        }
        Ok(())
    }

    #[test]
    fn unknown_caps_are_ignored() -> Result {
        let mut raw = sample();
        raw.caps |= 0x8000_0000;
        let info = FnInfo::decode(zerocopy::transmute!(raw))?;
        assert!(info.caps.contains(Cap::State));
        Ok(())
    }

    #[test]
    fn texts() {
        assert_eq!(text(b"abc\0\0"), "abc");
        assert_eq!(text(b"abc"), "abc");
        assert_eq!(text(b"\xff\0"), "");
    }
}
