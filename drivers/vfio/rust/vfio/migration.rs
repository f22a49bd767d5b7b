// SPDX-License-Identifier: GPL-2.0

//! Migration v2: the states, the arcs between them, and what a vendor implements.

use super::{
    device::OpenDevice,
    migration_file::MigrationFile,
    pci::Operations,
    state_lock::StateLock, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// State of the migration state machine. Names and meaning are those of `enum vfio_device_mig_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum State {
    /// The device has failed; only a reset leaves this state.
    Error = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
    /// No DMA, no interrupts, internal state does not change.
    Stop = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
    /// Normal operation.
    Running = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
    /// As `Stop`, and the device's state can be read.
    StopCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
    /// As `Stop`, and the device's state can be written.
    Resuming = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
    /// As `Running`, but the device starts no peer-to-peer DMA.
    RunningP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
    /// As `Running`, and state can be read while it still changes.
    PreCopy = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
    /// As `RunningP2p` and `PreCopy` together.
    PreCopyP2p = bindings::vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
}

impl State {
    /// The value of the user API.
    pub(crate) const fn to_raw(self) -> u32 {
        self as u32
    }

    /// All of them, in the order of the uAPI.
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

    /// Whether this is one of the two pre-copy states.
    pub(crate) const fn is_precopy(self) -> bool {
        matches!(self, State::PreCopy | State::PreCopyP2p)
    }

    /// Name for logs and debugfs.
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

/// One hop of the state machine. The VFIO core splits a request of the user into hops.
///
/// With P2P and PRE_COPY there are exactly fifteen (contract S1):
/// `Running`↔`RunningP2p`, `RunningP2p`↔`Stop`, `Stop`↔`StopCopy`, `Stop`↔`Resuming`,
/// `Running`↔`PreCopy`, `PreCopy`↔`PreCopyP2p`, `RunningP2p`↔`PreCopyP2p` and
/// `PreCopyP2p`→`StopCopy`. Without P2P also `Running`↔`Stop` and `PreCopy`→`StopCopy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// Where the device is.
    pub(crate) from: State,
    /// Where it goes.
    pub(crate) to: State,
}

impl Step {
    /// Whether this step starts a data transfer, and so returns a file (contract S6).
    pub(crate) const fn returns_file(self) -> bool {
        matches!(
            (self.from, self.to),
            (State::Running, State::PreCopy)
                | (State::RunningP2p, State::PreCopyP2p)
                | (State::Stop, State::StopCopy)
                | (State::Stop, State::Resuming)
        )
    }
}

/// Optional parts of the state machine that a device offers. STOP_COPY is not optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags {
    /// RUNNING_P2P, and PRE_COPY_P2P when `pre_copy` is there too.
    pub(crate) p2p: bool,
    /// PRE_COPY.
    pub(crate) pre_copy: bool,
}

impl Flags {
    /// The value of the user API.
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

/// Why a step failed, and where that leaves the device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// The device is still in the state that the step started from.
    Stay(Error),
    /// The device is in no valid state any more: the state becomes [`State::Error`].
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Stay(error)
    }
}

/// What makes a session and everything that belongs to it end at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ResetCause {
    /// The function was reset (`VFIO_DEVICE_RESET`, hot reset, sysfs): it is running, with nothing left
    /// of its former state.
    FunctionReset,
    /// The first user is opening the device, which was just reset.
    Open,
    /// The last user closed the device; a reset follows.
    Close,
}

/// Migration of a device. The layer owns the state machine; the vendor does the steps.
pub(crate) trait Migration: Operations {
    /// What the state lock protects besides the state itself: the sessions.
    type State: Send + Unpin;

    /// The lock that orders everything that changes the migration state.
    fn state_lock(&self) -> &StateLock<Self::State>;

    /// Makes one step. Complete when it returns (contract S8); the layer then stores `step.to`.
    ///
    /// The four steps for which [`Step::returns_file`] holds return the file of the new session (see
    /// [`OpenDevice::save_file`] and [`OpenDevice::resume_file`]), all others `None`. A step that leaves a
    /// session must leave its file dead: reads and writes fail from then on.
    ///
    /// Make the file first: when that fails nothing has happened yet.
    ///
    /// # Errors
    ///
    /// See [`Failure`]. A step that was interrupted by a signal (`ERESTARTSYS`) must be repeatable.
    fn step(
        dev: &OpenDevice<'_, Self>,
        state: &mut Self::State,
        step: Step,
    ) -> Result<Option<MigrationFile>, Failure>;

    /// Ends the session, if any: marks its file dead, wakes its sleepers, frees its buffers. The state
    /// is RUNNING afterwards. Cannot fail.
    ///
    /// May run with `memory_lock` held for writing: must not wait for a lock under which user memory is
    /// copied (see the module's page). Hardware is reached only within a bounded time.
    fn reset(&self, state: &mut Self::State, cause: ResetCause);

    /// Bytes that a stop-copy would transfer if it started now. In every state, quickly, never 0 for a
    /// device that works, and without leaving anything behind (contract F9).
    ///
    /// # Errors
    ///
    /// Any errno for the user.
    fn data_size(dev: &OpenDevice<'_, Self>) -> Result<u64>;
}

/// Proof that `T` implements [`Migration`], for [`Operations::MIGRATION`].
pub(crate) struct Ops<T: Operations> {
    pub(super) vtable: super::migration_ops::Callbacks<T>,
    _driver: PhantomData<T>,
}

impl<T: Migration> Ops<T> {
    /// The callbacks of `T`.
    pub(crate) const fn new() -> Self {
        Self {
            vtable: super::migration_ops::Callbacks::new(),
            _driver: PhantomData,
        }
    }
}

#[kunit_tests(dlr_vfio_migration)]
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

    #[test]
    fn four_steps_return_a_file() -> Result {
        let mut count = 0;
        for from in 0..8 {
            for to in 0..8 {
                let step = Step {
                    from: State::try_from(from)?,
                    to: State::try_from(to)?,
                };
                if step.returns_file() {
                    count += 1;
                }
            }
        }
        assert_eq!(count, 4);
        Ok(())
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
