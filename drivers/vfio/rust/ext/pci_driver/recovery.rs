// SPDX-License-Identifier: GPL-2.0

//! The enumerations of PCI error recovery.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use kernel::{
    bindings,
    prelude::*, //
};

/// State of the PCI channel (`pci_channel_state_t`, Documentation/PCI/pci-error-recovery.rst).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ChannelState {
    /// I/O works.
    Normal,
    /// I/O is blocked, the function will be reset.
    Frozen,
    /// The function is lost for good.
    PermanentFailure,
}

impl ChannelState {
    /// Converts the C value. An unknown value counts as [`Self::PermanentFailure`].
    pub(crate) const fn from_raw(state: bindings::pci_channel_state_t) -> Self {
        match state {
            bindings::pci_channel_io_normal => Self::Normal,
            bindings::pci_channel_io_frozen => Self::Frozen,
            _ => Self::PermanentFailure,
        }
    }
}

/// Answer of a driver to a step of error recovery (`pci_ers_result_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The device can recover without a reset.
    CanRecover,
    /// The bus below the port must be reset.
    NeedReset,
    /// The device cannot be used any more.
    Disconnect,
    /// The device works again.
    Recovered,
}

impl Verdict {
    pub(super) const fn into_raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}
