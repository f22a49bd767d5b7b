// SPDX-License-Identifier: GPL-2.0

//! The way from one migration state to another, hop by hop.

use super::{
    migration::{
        Failure,
        State,
        Step, //
    },
    state_lock::Locked, //
};
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

/// The next hop on the way from `from` to `to`, as the VFIO core sees it.
///
/// # Errors
///
/// `EINVAL` when there is no way.
///
/// # Safety
///
/// `vdev` is valid, with the migration flags that it is or will be registered with.
pub(super) unsafe fn next_state(
    vdev: *mut bindings::vfio_device,
    from: State,
    to: State,
) -> Result<State> {
    let mut hop = 0;
    // SAFETY: As promised by the caller; `hop` is a place for the answer.
    to_result(unsafe {
        bindings::vfio_mig_get_next_state(vdev, from.to_raw(), to.to_raw(), &mut hop)
    })?;
    State::try_from(hop)
}

/// Goes from the current state to `target`, hop by hop as `next` says, with `run` for each. Stores the
/// state after each hop and stops at the first that fails (contract S2 to S6).
pub(super) fn transition<S, F>(
    locked: &mut Locked<S>,
    target: u32,
    next: impl Fn(State, State) -> Result<State>,
    mut run: impl FnMut(&mut S, Step) -> Result<Option<F>, Failure>,
) -> Result<Option<F>> {
    let target = State::try_from(target)?;
    if target == State::Error {
        return Err(EINVAL);
    }
    while locked.state() != target {
        let from = locked.state();
        if from == State::Error {
            // Asking the core for a way out of here is a WARN (contract S3).
            return Err(EIO);
        }
        let to = next(from, target)?;
        let step = Step { from, to };
        let file = match run(locked, step) {
            Ok(file) => file,
            Err(Failure::Stay(error)) => return Err(error),
            Err(Failure::Broken(error)) => {
                locked.set_state(State::Error);
                return Err(error);
            }
        };
        locked.set_state(to);
        match (file, step.returns_file(), to == target) {
            (None, false, _) => (),
            (Some(file), true, true) => return Ok(Some(file)),
            // A file where there must be none, or none where there must be one, or one inside a path: the
            // user could never get it. Dropping it is all that can be done.
            _ => {
                pr_err!(
                    "wrong use of the data file from {} to {}\n",
                    from.name(),
                    to.name()
                );
                return Err(EIO);
            }
        }
    }
    Ok(None)
}

#[kunit_tests(dlr_vfio_transition)]
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
                            assert_eq!(*step, Step { from: at, to: *to });
                            at = *to;
                        }
                        assert_eq!(end, to);
                        let last = steps.last();
                        let file = last.is_some_and(|step| step.returns_file());
                        assert_eq!(result, Ok(file.then_some(())));
                        // Never inside a path.
                        let files = steps.iter().filter(|step| step.returns_file());
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

    type Steps = KVec<Step>;

    const STATES: [State; 7] = [S, R, RP, PC, PP, SC, RS];

    /// The table of section 2 of the contract: for each request the states on the way, `None` for
    /// `EINVAL`.
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

    /// Just enough of a VFIO device to ask the core for the next state.
    struct Machine(KBox<bindings::vfio_device>);

    fn machine(p2p: bool, pre_copy: bool) -> Result<Machine> {
        let vdev = KBox::<bindings::vfio_device>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        // SAFETY: All zeros is valid for this C struct, which is plain data and raw pointers.
        let mut vdev = unsafe { vdev.assume_init() };
        vdev.migration_flags = super::super::migration::Flags { p2p, pre_copy }.to_raw();
        Ok(Machine(vdev))
    }

    impl Machine {
        /// Requests `target` in the state `from`; the step `fail.0` fails. Returns the answer and the
        /// state after it.
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
            let vdev = core::ptr::from_ref(&*self.0).cast_mut();
            let next = |from, to| {
                // SAFETY: The core only reads the flags.
                unsafe { next_state(vdev, from, to) }
            };
            let result = transition(&mut locked, target, next, |(), step| {
                let index = steps.len();
                steps.push(step, GFP_KERNEL).map_err(Error::from)?;
                match fail {
                    Some((at, failure)) if at == index => Err(failure),
                    _ => Ok(step.returns_file().then_some(())),
                }
            });
            Ok((result, locked.state()))
        }
    }

    struct Nothing;

    impl ResetState<()> for Nothing {
        fn reset_state(&self, _data: &mut ()) {}
    }
}
