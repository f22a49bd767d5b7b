// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Results of admin commands.

use dlr_abi::abi;
use dlr_core::{DmaFault, LoadError};

/// Why a command failed (`enum dlr_status` without SUCCESS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Status {
    /// No such command.
    InvalidOpcode = abi::DLR_STATUS_INVALID_OPCODE as u16,
    /// A field has a value that the contract forbids.
    InvalidField = abi::DLR_STATUS_INVALID_FIELD as u16,
    /// No such data function.
    InvalidFunction = abi::DLR_STATUS_INVALID_FUNCTION as u16,
    /// Not in this state of the function, session or log.
    InvalidState = abi::DLR_STATUS_INVALID_STATE as u16,
    /// Something else is open, or a wait took too long.
    Busy = abi::DLR_STATUS_BUSY as u16,
    /// Out of ranges.
    NoResource = abi::DLR_STATUS_NO_RESOURCE as u16,
    /// The command's buffer cannot be reached.
    DmaFault = abi::DLR_STATUS_DMA_FAULT as u16,
    /// The device is at fault.
    Internal = abi::DLR_STATUS_INTERNAL as u16,
    /// State of another model or version.
    Incompatible = abi::DLR_STATUS_INCOMPATIBLE as u16,
    /// State that contradicts itself.
    Corrupt = abi::DLR_STATUS_CORRUPT as u16,
    /// Commit before the trailer.
    Truncated = abi::DLR_STATUS_TRUNCATED as u16,
    /// State beyond the function's limits.
    TooBig = abi::DLR_STATUS_TOO_BIG as u16,
}

impl From<DmaFault> for Status {
    fn from(_: DmaFault) -> Self {
        Self::DmaFault
    }
}

impl From<LoadError> for Status {
    fn from(e: LoadError) -> Self {
        match e {
            LoadError::Incompatible(_) => Self::Incompatible,
            LoadError::Corrupt(_) => Self::Corrupt,
            LoadError::NotStopped => Self::InvalidState,
        }
    }
}

/// What a successful command reports besides its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// `dlr_cqe.result`.
    pub(crate) result: u32,
    /// `dlr_cqe.flags`.
    pub(crate) flags: u32,
}
