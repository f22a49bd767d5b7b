// SPDX-License-Identifier: GPL-2.0

//! Tests of sessions whose PCI channel fails, or whose function is reset, in the middle of a call
//! or before they begin.

use super::{
    bed::{
        end_reset,
        Bed,
        ALL, //
    },
    board::Hook,
    engine::FakeEngine,
    engine_tests::ready,
    user::{
        read,
        write, //
    },
};
use crate::vfio::migration::{
    machine::Machine,
    state::State, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A hook with an event of the machine.
struct Event(Arc<Machine<FakeEngine>>, fn(&Machine<FakeEngine>));

impl Hook for Event {
    fn run(&self) {
        (self.1)(&self.0);
    }
}

/// Makes `event` happen in the middle of the call after the next `skipped` ones.
fn happen_in(bed: &Bed, skipped: usize, event: fn(&Machine<FakeEngine>)) -> Result {
    let now = bed.board.with(|d| d.calls.len());
    let hook = KBox::new(Event(bed.machine.clone(), event), GFP_KERNEL)?;
    bed.board.during(now + skipped, hook);
    Ok(())
}

/// Makes the channel fail in the middle of the call after the next `skipped` ones.
fn fail_in(bed: &Bed, skipped: usize) -> Result {
    happen_in(bed, skipped, Machine::poison)
}

/// Makes a reset of the function begin there. The device still executes the call.
fn reset_in(bed: &Bed, skipped: usize) -> Result {
    happen_in(bed, skipped, Machine::reset_prepare)
}

/// Returns the error with which the file of the session of `state` fails.
fn error_of_file(bed: &Bed, state: State) -> Result<Option<Error>> {
    Ok(match state {
        State::Resuming => write(&*bed.load()?, b"x").err(),
        _ => read(&*bed.save()?, 5).err(),
    })
}

#[kunit_tests(vfio_fake_channel)]
mod tests {
    use super::*;

    /// What is read from a device whose channel fails is worth nothing, and a reset destroys what
    /// is written to it. The file does not exist yet when the failure comes.
    #[test]
    fn m1_a_failure_while_a_session_begins_ends_its_file() -> Result {
        for state in [State::PreCopy, State::StopCopy, State::Resuming] {
            // A device in STOP is attached and then begins.
            let bed = match state {
                State::PreCopy => Bed::new(ALL, b"bytes")?,
                _ => Bed::at(ALL, State::Stop)?,
            };
            fail_in(&bed, 1)?;
            bed.request(state)?;
            assert_eq!(error_of_file(&bed, state)?, Some(EIO));
            bed.reset();
            bed.migrate()?;
        }
        Ok(())
    }

    /// The reset that follows the failure may still be to come.
    #[test]
    fn m1_a_session_that_begins_between_a_failure_and_a_reset_is_lost() -> Result {
        for state in [State::PreCopy, State::StopCopy, State::Resuming] {
            let bed = Bed::new(ALL, b"bytes")?;
            bed.machine.poison();
            bed.request(state)?;
            assert_eq!(error_of_file(&bed, state)?, Some(EIO));
            bed.reset();
            bed.migrate()?;
        }
        Ok(())
    }

    /// The write that commits the stream must not succeed, because the reset destroys what the
    /// device has accepted.
    #[test]
    fn m1_a_failure_inside_a_write_fails_it() -> Result {
        // In the middle of the stream, and with its trailer.
        for at in [0, 1] {
            let bed = Bed::at(ALL, State::Resuming)?;
            fail_in(&bed, at)?;
            let load = bed.load()?;
            assert_eq!(write(&*load, b"x\xff"), Err(EIO));
            assert!(!load.is_committed());
            assert_eq!(bed.request(State::Stop), Err(EINVAL));
            bed.reset();
            bed.migrate()?;
        }
        Ok(())
    }

    /// The same for the last byte of a write that does not end the stream.
    #[test]
    fn m1_a_failure_at_the_end_of_a_write_fails_it() -> Result {
        let bed = Bed::at(ALL, State::Resuming)?;
        fail_in(&bed, 0)?;
        assert_eq!(write(&*bed.load()?, b"x"), Err(EIO));
        Ok(())
    }

    /// The device may have only a part of the state, with which a guest must not run.
    #[test]
    fn m1_a_failure_while_a_state_is_activated_fails_the_arc() -> Result {
        let bed = ready(ALL, State::Resuming)?;
        // The first call is `Op::Attach`.
        fail_in(&bed, 1)?;
        assert_eq!(bed.request(State::Stop), Err(EIO));
        assert_eq!(bed.state(), State::Resuming);
        assert_eq!(bed.request(State::Running), Err(EINVAL));
        bed.reset();
        bed.migrate()
    }

    /// A device that is being reset has no state any more. The layer ends the session only when the
    /// reset has ended.
    #[test]
    fn m1_a_stream_that_a_reset_has_hit_never_ends() -> Result {
        // The reset comes while the session begins, and before the first read.
        for early in [true, false] {
            let bed = Bed::at(ALL, State::Stop)?;
            if early {
                reset_in(&bed, 1)?;
            }
            bed.request(State::StopCopy)?;
            if !early {
                bed.machine.reset_prepare();
            }
            assert_eq!(bed.drain().err(), Some(ENODEV));
            bed.board.reset();
            end_reset(&bed.machine);
            bed.migrate()?;
        }
        Ok(())
    }

    #[test]
    fn m1_a_reset_inside_a_write_fails_it() -> Result {
        for at in [0, 1] {
            let bed = Bed::at(ALL, State::Resuming)?;
            reset_in(&bed, at)?;
            let load = bed.load()?;
            assert_eq!(write(&*load, b"x\xff"), Err(ENODEV));
            assert!(!load.is_committed());
        }
        Ok(())
    }

    #[test]
    fn m1_a_reset_while_a_state_is_activated_fails_the_arc() -> Result {
        let bed = ready(ALL, State::Resuming)?;
        reset_in(&bed, 1)?;
        assert_eq!(bed.request(State::Stop), Err(ENODEV));
        assert_eq!(bed.state(), State::Resuming);
        bed.board.reset();
        end_reset(&bed.machine);
        bed.migrate()
    }
}
