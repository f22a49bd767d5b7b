// SPDX-License-Identifier: GPL-2.0

//! Decisions of the driver of a management function: one that serves the drivers of other functions
//! of its device, among them its VFs. Without side effects.

use super::recovery::{
    ChannelState,
    Verdict, //
};
use kernel::prelude::*;

/// Means to stop a device that has not followed a reset of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastResort {
    /// An FLR, which affects the management function only.
    Flr,
    /// None but to disable bus mastering. An FLR of a PF clears VF Enable (PCIe 6.0, section
    /// 9.3.3.3.1), which would remove the VFs of running guests. A function whose registers read as
    /// all ones cannot be reached by an FLR either.
    Nothing,
}

/// Chooses the means. `gone` means that the registers read as all ones; `vfs` is the number of
/// enabled VFs.
pub(crate) const fn last_resort(gone: bool, vfs: u16) -> LastResort {
    if vfs == 0 && !gone {
        LastResort::Flr
    } else {
        LastResort::Nothing
    }
}

/// Treatment of the VFs when the management function is unbound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vfs {
    /// No VFs are enabled.
    None,
    /// The VFs stay enabled, and the next bind finds them.
    Keep,
    /// The VFs are removed while the management function still serves their drivers.
    Remove,
}

/// Decides about the VFs. `bound` means that a driver is bound to one of them. `leaving` means that
/// the module is being unloaded, so that no driver is left for the management function.
pub(crate) const fn vfs_at_unbind(vfs: u16, bound: bool, leaving: bool) -> Vfs {
    match (vfs, bound, leaving) {
        (0, _, _) => Vfs::None,
        (_, true, false) => Vfs::Keep,
        _ => Vfs::Remove,
    }
}

/// A change of the number of VFs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Change nothing.
    None,
    /// Enable this number of VFs.
    Make(u16),
    /// Disable all VFs.
    Remove,
}

/// Decides what `sriov_configure` does, if `now` VFs are enabled, `wanted` are asked for, and the
/// device has `functions` functions for them. `alive` means that the management function can serve
/// their drivers.
///
/// # Errors
///
/// `EBUSY` if another number of VFs is enabled, `ERANGE` if the device has fewer functions, `EIO`
/// if it is not `alive`.
pub(crate) fn change_of_vfs(now: u16, wanted: u16, functions: u32, alive: bool) -> Result<Change> {
    match (now, wanted) {
        (now, wanted) if now == wanted => Ok(Change::None),
        (_, 0) => Ok(Change::Remove),
        (1.., _) => Err(EBUSY),
        (_, wanted) if u32::from(wanted) > functions => Err(ERANGE),
        _ if !alive => Err(EIO),
        (_, wanted) => Ok(Change::Make(wanted)),
    }
}

/// Effect of a PCI error on the management function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// None. If the error lost a transaction of this function, the deadline of a command passes,
    /// and the driver recovers from that.
    None,
    /// The bus will be reset, which ends all that the device does for the other drivers.
    Reset,
    /// The function will not return.
    Gone,
}

/// Returns the effect of an error that leaves the channel in `state`.
pub(crate) const fn damage(state: ChannelState) -> Damage {
    match state {
        ChannelState::Normal => Damage::None,
        ChannelState::Frozen => Damage::Reset,
        ChannelState::PermanentFailure => Damage::Gone,
    }
}

/// Returns the result of `error_detected`. `alive` is as for [`change_of_vfs`]: a function
/// that served no driver before the error loses nothing, and must not cost the others a reset.
pub(crate) const fn verdict(damage: Damage, alive: bool) -> Verdict {
    match (damage, alive) {
        (Damage::None, _) => Verdict::CanRecover,
        (Damage::Reset, true) => Verdict::NeedReset,
        // The core resets the bus in any case.
        (Damage::Reset, false) => Verdict::CanRecover,
        (Damage::Gone, _) => Verdict::Disconnect,
    }
}

/// Returns the result of `mmio_enabled`. `answers` means that the device answers reads.
pub(crate) const fn verdict_after_look(alive: bool, answers: bool) -> Verdict {
    if !alive || answers {
        Verdict::Recovered
    } else {
        Verdict::NeedReset
    }
}

/// Decides about a device that came back from an outage. `registers` says whether its registers are
/// those of the device that was bound, if it answers; `functions` is the result of the commands
/// that identify its functions.
///
/// # Errors
///
/// `ENODEV` if it is another device. On any other error that is not known, and the device must not
/// be used before it is.
pub(crate) fn after_outage(registers: Option<bool>, functions: Result) -> Result {
    match (registers, functions) {
        (Some(false), _) => Err(ENODEV),
        (None, Ok(())) => Err(EIO),
        (_, functions) => functions,
    }
}

#[kunit_tests(ext_pci_driver_policy)]
mod tests {
    use super::*;

    #[test]
    fn no_flr_under_vfs() {
        assert_eq!(last_resort(false, 0), LastResort::Flr);
        assert_eq!(last_resort(true, 0), LastResort::Nothing);
        for vfs in [1, 2, 64, u16::MAX] {
            assert_eq!(last_resort(false, vfs), LastResort::Nothing);
            assert_eq!(last_resort(true, vfs), LastResort::Nothing);
        }
    }

    #[test]
    fn unbind_takes_no_vf_from_its_user() {
        for (vfs, bound, leaving, wanted) in [
            (0, false, false, Vfs::None),
            (0, false, true, Vfs::None),
            (3, false, false, Vfs::Remove),
            (3, true, false, Vfs::Keep),
            (3, false, true, Vfs::Remove),
            (3, true, true, Vfs::Remove),
        ] {
            assert_eq!(vfs_at_unbind(vfs, bound, leaving), wanted);
        }
    }

    #[test]
    fn vfs_are_made_and_removed_as_a_whole() {
        for (now, wanted, alive, result) in [
            (0, 0, true, Ok(Change::None)),
            (0, 4, true, Ok(Change::Make(4))),
            (0, 5, true, Err(ERANGE)),
            (0, 4, false, Err(EIO)),
            (2, 2, true, Ok(Change::None)),
            (2, 3, true, Err(EBUSY)),
            (2, 9, true, Err(EBUSY)),
            (2, 0, true, Ok(Change::Remove)),
            // Removing VFs needs no command.
            (2, 0, false, Ok(Change::Remove)),
        ] {
            assert_eq!(change_of_vfs(now, wanted, 4, alive), result);
        }
    }

    #[test]
    fn v4_only_the_same_device_is_used_after_an_outage() {
        for (registers, functions, want) in [
            (Some(true), Ok(()), Ok(())),
            (Some(false), Ok(()), Err(ENODEV)),
            (Some(false), Err(ETIMEDOUT), Err(ENODEV)),
            (Some(true), Err(ENODEV), Err(ENODEV)),
            (None, Err(ENODEV), Err(ENODEV)),
            // It came back late, or went away again.
            (None, Err(ETIMEDOUT), Err(ETIMEDOUT)),
            (None, Ok(()), Err(EIO)),
            (Some(true), Err(EIO), Err(EIO)),
        ] {
            assert_eq!(after_outage(registers, functions), want);
        }
    }

    #[test]
    fn an_error_costs_what_was_lost() {
        for (state, alive, wanted) in [
            (ChannelState::Normal, true, Verdict::CanRecover),
            (ChannelState::Normal, false, Verdict::CanRecover),
            (ChannelState::Frozen, true, Verdict::NeedReset),
            (ChannelState::Frozen, false, Verdict::CanRecover),
            (ChannelState::PermanentFailure, true, Verdict::Disconnect),
            (ChannelState::PermanentFailure, false, Verdict::Disconnect),
        ] {
            assert_eq!(verdict(damage(state), alive), wanted);
        }
        assert_eq!(damage(ChannelState::Normal), Damage::None);
        assert_eq!(verdict_after_look(true, true), Verdict::Recovered);
        assert_eq!(verdict_after_look(true, false), Verdict::NeedReset);
        assert_eq!(verdict_after_look(false, false), Verdict::Recovered);
    }
}
