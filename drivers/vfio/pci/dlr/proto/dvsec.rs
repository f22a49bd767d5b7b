// SPDX-License-Identifier: GPL-2.0

//! Words of the DVSEC of a function (`DLR_DVSEC_*`). The first two are those of PCIe 6.0, section
//! 7.9.6.

use crate::proto::dlr;
use kernel::{
    bitfield,
    prelude::*, //
};

bitfield! {
    /// The word at `DLR_DVSEC_HEADER1`.
    pub(crate) struct Header1(u32) {
        /// Length of the capability in bytes.
        31:20 length;
        /// Revision of the layout.
        19:16 revision;
        /// Vendor that has defined the layout.
        15:0 vendor;
    }
}

bitfield! {
    /// The word at `DLR_DVSEC_HEADER2`.
    pub(crate) struct Header2(u32) {
        /// Major version of the contract.
        31:16 major;
        /// Id of the layout.
        15:0 id;
    }
}

bitfield! {
    /// The word at `DLR_DVSEC_FUNCTION`.
    pub(crate) struct FunctionWord(u32) {
        /// Whether the function is a management function.
        16:16 is_management => bool;
        /// Number of the data function.
        15:0 number;
    }
}

static_assert!(FunctionWord::NUMBER_MASK == dlr::DLR_DVSEC_FUNCTION_NUMBER_MASK);
static_assert!(FunctionWord::IS_MANAGEMENT_MASK == dlr::DLR_DVSEC_FUNCTION_ROLE_MF);
// All ones is what a function reads as that does not answer, and no word of a function.
static_assert!(FunctionWord::IS_MANAGEMENT_MASK | FunctionWord::NUMBER_MASK != u32::MAX);
