// SPDX-License-Identifier: GPL-2.0

//! Completion entries of the admin queue.

use crate::proto::dlr;
use core::mem::offset_of;
use kernel::{
    bitfield,
    prelude::*, //
};

/// Length of a completion entry in words of eight bytes.
pub(crate) const CQE_WORDS: usize = size_of::<dlr::dlr_cqe>() / 8;

static_assert!(size_of::<dlr::dlr_cqe>() == 16);

bitfield! {
    /// Flags of a completion (`DLR_CQE_F_*`).
    struct Flags(u32) {
        /// SAVE_READ: the device has delivered the last byte of the stream.
        1:1 end => bool;
        /// SAVE_READ: the device has nothing more to deliver for now.
        0:0 empty => bool;
    }
}

bitfield! {
    /// The second word of an entry. The device writes it last, so it has the phase bit.
    struct SecondWord(u64) {
        /// Flips with each pass over the ring.
        48:48 phase => bool;
        /// `enum dlr_status`.
        47:32 status;
        /// Id of the command.
        31:16 id;
        /// Low 16 bits of the device's consumer count of the submission ring.
        15:0 sq_head;
    }
}

static_assert!(Flags::EMPTY_MASK == dlr::DLR_CQE_F_EMPTY);
static_assert!(Flags::END_MASK == dlr::DLR_CQE_F_END);
// Bits of the word by the offsets of the fields, the first of which is at 8.
static_assert!(
    SecondWord::PHASE_SHIFT as usize == 8 * (offset_of!(dlr::dlr_cqe, phase) - 8)
        && SecondWord::STATUS_SHIFT as usize == 8 * (offset_of!(dlr::dlr_cqe, status) - 8)
        && SecondWord::ID_SHIFT as usize == 8 * (offset_of!(dlr::dlr_cqe, id) - 8)
        && SecondWord::SQ_HEAD_SHIFT as usize == 8 * (offset_of!(dlr::dlr_cqe, sq_head) - 8)
);
static_assert!(SecondWord::PHASE_MASK >> SecondWord::PHASE_SHIFT == dlr::DLR_CQE_PHASE as u64);

/// A decoded completion entry (`struct dlr_cqe`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    /// Result of the command. Its meaning depends on the command.
    pub(crate) result: u32,
    /// SAVE_READ: the device has nothing more to deliver for now (`DLR_CQE_F_EMPTY`).
    pub(crate) empty: bool,
    /// SAVE_READ: the device has delivered the last byte of the stream (`DLR_CQE_F_END`).
    pub(crate) end: bool,
    /// Low 16 bits of the device's consumer count of the submission ring.
    pub(crate) sq_head: u16,
    /// Id of the command.
    pub(crate) id: u16,
    /// Status of the command (`enum dlr_status`), see [`status_to_result`].
    pub(crate) status: u16,
}

impl Completion {
    /// Decodes the words of an entry.
    pub(crate) fn decode(words: [u64; CQE_WORDS]) -> Self {
        let raw: dlr::dlr_cqe = zerocopy::transmute!(words);
        let flags = Flags::from_raw(raw.flags);
        Self {
            result: raw.result,
            empty: flags.empty(),
            end: flags.end(),
            sq_head: raw.sq_head,
            id: raw.id,
            status: raw.status,
        }
    }
}

/// Returns the phase bit, given the second word of a completion entry.
pub(crate) fn phase(second: u64) -> bool {
    SecondWord::from_raw(second).phase()
}

/// Converts the status of a completion to the errno that `enum dlr_status` names for it. A status
/// that the driver does not know is `EIO`.
pub(crate) fn status_to_result(status: u16) -> Result {
    match u32::from(status) {
        dlr::DLR_STATUS_SUCCESS => Ok(()),
        dlr::DLR_STATUS_INVALID_OPCODE | dlr::DLR_STATUS_INCOMPATIBLE => Err(EOPNOTSUPP),
        dlr::DLR_STATUS_INVALID_FIELD
        | dlr::DLR_STATUS_INVALID_STATE
        | dlr::DLR_STATUS_CORRUPT
        | dlr::DLR_STATUS_TRUNCATED => Err(EINVAL),
        dlr::DLR_STATUS_INVALID_FUNCTION => Err(ENODEV),
        dlr::DLR_STATUS_BUSY => Err(EBUSY),
        dlr::DLR_STATUS_NO_RESOURCE => Err(ENOSPC),
        dlr::DLR_STATUS_NO_MEMORY | dlr::DLR_STATUS_TOO_BIG => Err(ENOMEM),
        // DMA_FAULT is a fault in the driver's own buffer, not in user memory, so it is not EFAULT.
        _ => Err(EIO),
    }
}

#[kunit_tests(dlr_proto_completion)]
mod tests {
    use super::*;

    #[test]
    fn completion_layout() {
        let words = [0x0000_0002_0000_0040, 0x0001_0005_1234_0007];
        assert!(phase(words[1]));
        assert!(!phase(words[1] ^ 1 << 48));
        let got = Completion::decode(words);
        assert_eq!(got.result, 0x40);
        assert!(got.end && !got.empty);
        assert_eq!(got.sq_head, 7);
        assert_eq!(got.id, 0x1234);
        assert_eq!(status_to_result(got.status), Err(EBUSY));
    }

    #[test]
    fn every_status_has_its_errno() {
        for (status, want) in [
            (0x01, EOPNOTSUPP),
            (0x02, EINVAL),
            (0x03, ENODEV),
            (0x04, EINVAL),
            (0x05, EBUSY),
            (0x06, ENOSPC),
            (0x07, ENOMEM),
            (0x08, EIO),
            (0x09, EIO),
            (0x10, EOPNOTSUPP),
            (0x11, EINVAL),
            (0x12, EINVAL),
            (0x13, ENOMEM),
            (0x0a, EIO),
            (0xffff, EIO),
        ] {
            assert_eq!(status_to_result(status), Err(want));
        }
        assert_eq!(status_to_result(0), Ok(()));
    }
}
