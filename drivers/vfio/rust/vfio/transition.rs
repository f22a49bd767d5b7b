// SPDX-License-Identifier: GPL-2.0

//! Changes of the migration state, one arc of the VFIO state machine at a time.

#[cfg(CONFIG_KUNIT = "y")]
use super::migration::state::Flags;
use super::{
    migration::state::{
        Failure,
        State,
        Transition, //
    },
    state_lock::Locked, //
};
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// Returns the next state on the path from `from` to `to`, by `vfio_mig_get_next_state()`.
///
/// # Errors
///
/// `EINVAL` when there is no path.
///
/// # Safety
///
/// `vdev` is valid and has the migration flags with which it is or will be registered.
pub(super) unsafe fn next_state(
    vdev: *mut bindings::vfio_device,
    from: State,
    to: State,
) -> Result<State> {
    let mut hop = 0;
    // SAFETY: By the requirements of this function; `hop` is valid for writes.
    to_result(unsafe {
        bindings::vfio_mig_get_next_state(vdev, from.to_raw(), to.to_raw(), &mut hop)
    })?;
    State::try_from(hop)
}

/// Moves from the current state to `target` on the path that `next` gives, and calls `run` for each
/// arc. Stores the state after each arc and stops at the first that fails (contract S2 to S6). A
/// path that makes no file, also one without an arc, ends with `arrived`.
pub(super) fn transition<S, F>(
    locked: &mut Locked<S>,
    target: u32,
    next: impl Fn(State, State) -> Result<State>,
    mut run: impl FnMut(&mut S, Transition) -> Result<Option<F>, Failure>,
    arrived: impl FnOnce(&mut S) -> Result,
) -> Result<Option<F>> {
    let target = State::try_from(target)?;
    if target == State::Error {
        return Err(EINVAL);
    }
    while locked.state() != target {
        let from = locked.state();
        if from == State::Error {
            // `vfio_mig_get_next_state()` warns (WARN_ON) if asked for a path from ERROR (contract
            // S3).
            return Err(EIO);
        }
        let to = next(from, target)?;
        let arc = Transition::new(from, to).ok_or(EINVAL)?;
        let file = match run(locked.data_mut(), arc) {
            Ok(file) => file,
            Err(Failure::Stay(error)) => return Err(error),
            Err(Failure::Broken(error)) => {
                locked.set_state(State::Error);
                return Err(error);
            }
        };
        locked.set_state(to);
        match file {
            Some(file) if to == target => return Ok(Some(file)),
            // An arc inside a path made a file. The core's paths have no such arc, and the user
            // could not get the file, so drop it.
            Some(_) => {
                pr_err!("a data file from {} to {}\n", from.name(), to.name());
                return Err(EIO);
            }
            None => (),
        }
    }
    arrived(locked.data_mut())?;
    Ok(None)
}

/// The paths of the VFIO core for a device with given flags, for tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) struct CoreTable(KBox<bindings::vfio_device>);

#[cfg(CONFIG_KUNIT = "y")]
impl CoreTable {
    /// Makes a VFIO device of which only the migration flags are set.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(flags: Flags) -> Result<Self> {
        let vdev = KBox::<bindings::vfio_device>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: All zeros is valid for this C struct, which is plain data and raw pointers.
        let mut vdev = unsafe { vdev.assume_init() };
        vdev.migration_flags = flags.to_raw();
        Ok(Self(vdev))
    }

    /// See [`next_state`].
    ///
    /// # Errors
    ///
    /// `EINVAL` when there is no path.
    pub(super) fn next(&self, from: State, to: State) -> Result<State> {
        let vdev = core::ptr::from_ref(&*self.0).cast_mut();
        // SAFETY: The core only reads the flags.
        unsafe { next_state(vdev, from, to) }
    }
}

#[kunit_tests(vfio_transition)]
mod tests {
    use super::{
        super::state_lock::{
            ResetState,
            StateLock, //
        },
        *, //
    };

    #[test]
    fn every_request_runs_the_steps_of_the_contract() -> Result {
        let all = machine(true, true)?;
        for (from, row) in TABLE {
            for (to, path) in STATES.into_iter().zip(row) {
                let mut steps = Steps::new();
                let (result, end) = all.request(from, to.to_raw(), &mut steps, None)?;
                match path {
                    None => {
                        assert_eq!(result, Err(EINVAL));
                        assert_eq!(end, from);
                        assert!(steps.is_empty());
                    }
                    Some(path) => {
                        let mut at = from;
                        assert_eq!(steps.len(), path.len());
                        for (step, to) in steps.iter().zip(path) {
                            assert_eq!(step.ends(), (at, *to));
                            at = *to;
                        }
                        assert_eq!(end, to);
                        let last = steps.last();
                        let file = last.is_some_and(makes_file);
                        assert_eq!(result, Ok(file.then_some(())));
                        // No file is made inside a path.
                        let files = steps.iter().filter(|step| makes_file(step));
                        assert_eq!(files.count(), usize::from(file));
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn bad_requests_move_nothing() -> Result {
        let all = machine(true, true)?;
        let mut steps = Steps::new();
        for target in [State::Error.to_raw(), 8, u32::MAX] {
            for from in STATES {
                let (result, end) = all.request(from, target, &mut steps, None)?;
                assert_eq!(result, Err(EINVAL));
                assert_eq!(end, from);
            }
        }
        let basic = machine(false, false)?;
        for target in [State::RunningP2p, State::PreCopy, State::PreCopyP2p] {
            let (result, _) = basic.request(State::Running, target.to_raw(), &mut steps, None)?;
            assert_eq!(result, Err(EINVAL));
        }
        assert!(steps.is_empty());
        Ok(())
    }

    #[test]
    fn only_a_reset_leaves_error() -> Result {
        let all = machine(true, true)?;
        let mut steps = Steps::new();
        for target in STATES {
            let (result, end) = all.request(State::Error, target.to_raw(), &mut steps, None)?;
            assert_eq!(result, Err(EIO));
            assert_eq!(end, State::Error);
        }
        // ERROR as the target is refused even in ERROR.
        let (result, _) = all.request(State::Error, State::Error.to_raw(), &mut steps, None)?;
        assert_eq!(result, Err(EINVAL));
        assert!(steps.is_empty());
        Ok(())
    }

    #[test]
    fn a_failed_step_ends_the_path_where_it_failed() -> Result {
        let all = machine(true, true)?;
        let target = State::StopCopy.to_raw();
        for (fail, end) in [
            (Failure::Stay(ETIMEDOUT), State::RunningP2p),
            (Failure::Broken(ETIMEDOUT), State::Error),
        ] {
            let mut steps = Steps::new();
            let fail = Some((1, fail));
            let (result, state) = all.request(State::Running, target, &mut steps, fail)?;
            assert_eq!(result, Err(ETIMEDOUT));
            assert_eq!(state, end);
            assert_eq!(steps.len(), 2);
        }
        Ok(())
    }

    use State::{
        PreCopy as PC,
        PreCopyP2p as PP,
        Resuming as RS,
        Running as R,
        RunningP2p as RP,
        Stop as S,
        StopCopy as SC, //
    };

    type Steps = KVec<Transition>;

    fn makes_file(arc: &Transition) -> bool {
        matches!(arc, Transition::Open(_))
    }

    const STATES: [State; 7] = [S, R, RP, PC, PP, SC, RS];

    /// For each request the states on the path, or `None` for `EINVAL`, as documented for `enum
    /// vfio_device_mig_state` in include/uapi/linux/vfio.h (contract S1, S2).
    #[rustfmt::skip]
    const TABLE: [(State, [Option<&[State]>; 7]); 7] = [
        (S, [Some(&[]), Some(&[RP, R]), Some(&[RP]), Some(&[RP, R, PC]), Some(&[RP, PP]),
            Some(&[SC]), Some(&[RS])]),
        (R, [Some(&[RP, S]), Some(&[]), Some(&[RP]), Some(&[PC]), Some(&[RP, PP]),
            Some(&[RP, S, SC]), Some(&[RP, S, RS])]),
        (RP, [Some(&[S]), Some(&[R]), Some(&[]), Some(&[R, PC]), Some(&[PP]),
            Some(&[S, SC]), Some(&[S, RS])]),
        (PC, [Some(&[R, RP, S]), Some(&[R]), Some(&[R, RP]), Some(&[]), Some(&[PP]),
            Some(&[PP, SC]), Some(&[R, RP, S, RS])]),
        (PP, [Some(&[RP, S]), Some(&[RP, R]), Some(&[RP]), Some(&[PC]), Some(&[]),
            Some(&[SC]), Some(&[RP, S, RS])]),
        (SC, [Some(&[S]), Some(&[S, RP, R]), Some(&[S, RP]), None, None,
            Some(&[]), Some(&[S, RS])]),
        (RS, [Some(&[S]), Some(&[S, RP, R]), Some(&[S, RP]), Some(&[S, RP, R, PC]),
            Some(&[S, RP, PP]), Some(&[S, SC]), Some(&[])]),
    ];

    /// A state machine with the paths of the core.
    struct Machine(CoreTable);

    fn machine(p2p: bool, pre_copy: bool) -> Result<Machine> {
        Ok(Machine(CoreTable::new(Flags { p2p, pre_copy })?))
    }

    impl Machine {
        /// Requests `target` in the state `from`; the step with index `fail.0` fails. Returns the
        /// result and the state after it.
        fn request(
            &self,
            from: State,
            target: u32,
            steps: &mut Steps,
            fail: Option<(usize, Failure)>,
        ) -> Result<(Result<Option<()>>, State)> {
            let lock = KBox::pin_init(StateLock::new(()), GFP_KERNEL)?;
            let mut locked = lock.lock(&Nothing);
            locked.set_state(from);
            let next = |from, to| self.0.next(from, to);
            let run = |(): &mut (), step| {
                let index = steps.len();
                let pushed = steps.push(step, GFP_KERNEL);
                pushed.map_err(|error| Failure::Stay(error.into()))?;
                match fail {
                    Some((at, failure)) if at == index => Err(failure),
                    _ => Ok(makes_file(&step).then_some(())),
                }
            };
            let result = transition(locked.locked(), target, next, run, |()| Ok(()));
            Ok((result, locked.state()))
        }
    }

    struct Nothing;

    impl ResetState<()> for Nothing {
        fn reset_state(&self, _data: &mut ()) {}
    }
}
