// SPDX-License-Identifier: GPL-2.0

//! The states of the migration state machine and the arcs between them.
//!
//! C header: [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h), `enum
//! vfio_device_mig_state`. The VFIO core splits each request of a user into these arcs
//! (`vfio_mig_get_next_state()` in `drivers/vfio/vfio_main.c`).

use crate::bindings;
use kernel::prelude::*;

/// A state of the migration state machine, as `enum vfio_device_mig_state` defines it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum State {
    /// The device has failed; only a reset leaves this state.
    Error = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
    /// No DMA, no interrupts, internal state does not change.
    Stop = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
    /// Normal operation.
    Running = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
    /// Like `Stop`, and the device's state can be read.
    StopCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
    /// Like `Stop`, and the device's state can be written.
    Resuming = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
    /// Like `Running`, but the device starts no peer-to-peer DMA.
    RunningP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
    /// Like `Running`, and state can be read while it still changes.
    PreCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
    /// `RunningP2p` and `PreCopy` together.
    PreCopyP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
}

impl State {
    /// Returns the value of the uAPI.
    pub(crate) const fn to_raw(self) -> u32 {
        self as u32
    }

    /// All states in the order of the uAPI.
    pub(crate) const ALL: [State; 8] = [
        State::Error,
        State::Stop,
        State::Running,
        State::StopCopy,
        State::Resuming,
        State::RunningP2p,
        State::PreCopy,
        State::PreCopyP2p,
    ];

    /// Returns whether this is one of the two pre-copy states.
    pub(crate) const fn is_precopy(self) -> bool {
        matches!(self, State::PreCopy | State::PreCopyP2p)
    }

    /// Returns whether the device has a save session.
    pub(crate) const fn has_save(self) -> bool {
        self.is_precopy() || matches!(self, State::StopCopy)
    }

    /// Returns the name for logs and debugfs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::Error => "ERROR",
            State::Stop => "STOP",
            State::Running => "RUNNING",
            State::StopCopy => "STOP_COPY",
            State::Resuming => "RESUMING",
            State::RunningP2p => "RUNNING_P2P",
            State::PreCopy => "PRE_COPY",
            State::PreCopyP2p => "PRE_COPY_P2P",
        }
    }
}

impl TryFrom<u32> for State {
    type Error = Error;

    fn try_from(raw: u32) -> Result<Self> {
        State::ALL
            .into_iter()
            .find(|state| state.to_raw() == raw)
            .ok_or(EINVAL)
    }
}

/// What a device may do by itself. Each level forbids more than the one before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RunLevel {
    /// Nothing is forbidden.
    Running,
    /// The device starts no peer-to-peer DMA, but still accepts accesses from other devices.
    RunningP2p,
    /// The device starts no DMA and no interrupts, and its internal state does not change.
    Stopped,
}

impl State {
    /// Returns the run level of this state, or `None` for [`State::Error`].
    pub(crate) const fn level(self) -> Option<RunLevel> {
        match self {
            State::Running | State::PreCopy => Some(RunLevel::Running),
            State::RunningP2p | State::PreCopyP2p => Some(RunLevel::RunningP2p),
            State::Stop | State::StopCopy | State::Resuming => Some(RunLevel::Stopped),
            State::Error => None,
        }
    }
}

/// An arc that starts a data transfer and returns a file to the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// RUNNING → PRE_COPY.
    PreCopy,
    /// RUNNING_P2P → PRE_COPY_P2P.
    PreCopyP2p,
    /// STOP → STOP_COPY.
    StopCopy,
    /// STOP → RESUMING.
    Resuming,
}

/// An arc that makes no file. The core uses the three with `Direct` in their name for devices
/// without P2P.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// RUNNING → RUNNING_P2P.
    Quiesce,
    /// RUNNING_P2P → STOP.
    Stop,
    /// STOP → RUNNING_P2P.
    Start,
    /// RUNNING_P2P → RUNNING.
    Unquiesce,
    /// PRE_COPY → PRE_COPY_P2P.
    PreCopyQuiesce,
    /// PRE_COPY_P2P → PRE_COPY.
    PreCopyUnquiesce,
    /// PRE_COPY_P2P → STOP_COPY.
    PreCopyStop,
    /// PRE_COPY → RUNNING.
    EndPreCopy,
    /// PRE_COPY_P2P → RUNNING_P2P.
    EndPreCopyP2p,
    /// STOP_COPY → STOP.
    EndStopCopy,
    /// RESUMING → STOP.
    EndResuming,
    /// RUNNING → STOP.
    DirectStop,
    /// STOP → RUNNING.
    DirectStart,
    /// PRE_COPY → STOP_COPY.
    DirectPreCopyStop,
}

/// An arc of the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transition {
    /// An arc that makes a file.
    Open(Opening),
    /// An arc that makes no file.
    Move(Move),
}

impl Transition {
    /// Returns the arc `from` → `to`, if there is one.
    pub(crate) const fn new(from: State, to: State) -> Option<Self> {
        use State as S;
        use Transition::{
            Move as M,
            Open as O, //
        };
        Some(match (from, to) {
            (S::Running, S::PreCopy) => O(Opening::PreCopy),
            (S::RunningP2p, S::PreCopyP2p) => O(Opening::PreCopyP2p),
            (S::Stop, S::StopCopy) => O(Opening::StopCopy),
            (S::Stop, S::Resuming) => O(Opening::Resuming),
            (S::Running, S::RunningP2p) => M(Move::Quiesce),
            (S::RunningP2p, S::Stop) => M(Move::Stop),
            (S::Stop, S::RunningP2p) => M(Move::Start),
            (S::RunningP2p, S::Running) => M(Move::Unquiesce),
            (S::PreCopy, S::PreCopyP2p) => M(Move::PreCopyQuiesce),
            (S::PreCopyP2p, S::PreCopy) => M(Move::PreCopyUnquiesce),
            (S::PreCopyP2p, S::StopCopy) => M(Move::PreCopyStop),
            (S::PreCopy, S::Running) => M(Move::EndPreCopy),
            (S::PreCopyP2p, S::RunningP2p) => M(Move::EndPreCopyP2p),
            (S::StopCopy, S::Stop) => M(Move::EndStopCopy),
            (S::Resuming, S::Stop) => M(Move::EndResuming),
            (S::Running, S::Stop) => M(Move::DirectStop),
            (S::Stop, S::Running) => M(Move::DirectStart),
            (S::PreCopy, S::StopCopy) => M(Move::DirectPreCopyStop),
            _ => return None,
        })
    }

    /// Returns the states in which the arc begins and ends.
    pub(crate) const fn ends(self) -> (State, State) {
        use State as S;
        match self {
            Self::Open(Opening::PreCopy) => (S::Running, S::PreCopy),
            Self::Open(Opening::PreCopyP2p) => (S::RunningP2p, S::PreCopyP2p),
            Self::Open(Opening::StopCopy) => (S::Stop, S::StopCopy),
            Self::Open(Opening::Resuming) => (S::Stop, S::Resuming),
            Self::Move(Move::Quiesce) => (S::Running, S::RunningP2p),
            Self::Move(Move::Stop) => (S::RunningP2p, S::Stop),
            Self::Move(Move::Start) => (S::Stop, S::RunningP2p),
            Self::Move(Move::Unquiesce) => (S::RunningP2p, S::Running),
            Self::Move(Move::PreCopyQuiesce) => (S::PreCopy, S::PreCopyP2p),
            Self::Move(Move::PreCopyUnquiesce) => (S::PreCopyP2p, S::PreCopy),
            Self::Move(Move::PreCopyStop) => (S::PreCopyP2p, S::StopCopy),
            Self::Move(Move::EndPreCopy) => (S::PreCopy, S::Running),
            Self::Move(Move::EndPreCopyP2p) => (S::PreCopyP2p, S::RunningP2p),
            Self::Move(Move::EndStopCopy) => (S::StopCopy, S::Stop),
            Self::Move(Move::EndResuming) => (S::Resuming, S::Stop),
            Self::Move(Move::DirectStop) => (S::Running, S::Stop),
            Self::Move(Move::DirectStart) => (S::Stop, S::Running),
            Self::Move(Move::DirectPreCopyStop) => (S::PreCopy, S::StopCopy),
        }
    }
}

/// The optional states that a device offers (`VFIO_MIGRATION_*`). STOP_COPY is not optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags {
    /// RUNNING_P2P, and PRE_COPY_P2P if `pre_copy` is also set.
    pub(crate) p2p: bool,
    /// PRE_COPY.
    pub(crate) pre_copy: bool,
}

impl Flags {
    /// Returns the value of the uAPI.
    pub(crate) const fn to_raw(self) -> u32 {
        let mut raw = bindings::VFIO_MIGRATION_STOP_COPY;
        if self.p2p {
            raw |= bindings::VFIO_MIGRATION_P2P;
        }
        if self.pre_copy {
            raw |= bindings::VFIO_MIGRATION_PRE_COPY;
        }
        raw
    }
}

/// The error of an arc and the state of the device after it. There is no conversion from [`Error`],
/// so that the code says explicitly which of the two it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// The device is still in the state that the arc started from.
    Stay(Error),
    /// The device is in no valid state any more, and the state becomes [`State::Error`].
    Broken(Error),
}

impl Failure {
    /// Returns the error of the arc.
    pub(crate) const fn error(self) -> Error {
        match self {
            Failure::Stay(error) | Failure::Broken(error) => error,
        }
    }
}

/// Why a session is torn down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResetCause {
    /// The function was reset (by `VFIO_DEVICE_RESET`, a hot reset or sysfs) and is running.
    FunctionReset,
    /// The first user is opening the device, which was just enabled.
    Open {
        /// Whether the function was reset. If not, the device is as its last user has left it.
        reset: bool,
    },
    /// The last user is closing the device. A reset follows if the function can be reset.
    Close,
}

#[kunit_tests(vfio_migration_state)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_round_trip() -> Result {
        for raw in 0..8 {
            assert_eq!(State::try_from(raw)?.to_raw(), raw);
        }
        assert!(State::try_from(8).is_err());
        assert!(State::try_from(u32::MAX).is_err());
        Ok(())
    }

    /// The arcs of the comment of `enum vfio_device_mig_state`, and three that replace paths
    /// through a P2P state.
    #[test]
    fn four_of_eighteen_arcs_make_a_file() {
        let (mut all, mut files) = (0, 0);
        for from in State::ALL {
            for to in State::ALL {
                let Some(arc) = Transition::new(from, to) else {
                    continue;
                };
                assert_eq!(arc.ends(), (from, to));
                all += 1;
                files += u32::from(matches!(arc, Transition::Open(_)));
            }
        }
        assert_eq!((all, files), (15 + 3, 4));
    }

    #[test]
    fn flags_always_have_stop_copy() {
        let stop_copy = bindings::VFIO_MIGRATION_STOP_COPY;
        assert_eq!(Flags::default().to_raw(), stop_copy);
        let all = Flags {
            p2p: true,
            pre_copy: true,
        };
        assert_eq!(all.to_raw(), 7);
    }
}
