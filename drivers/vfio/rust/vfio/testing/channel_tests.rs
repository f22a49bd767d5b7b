// SPDX-License-Identifier: GPL-2.0

//! Tests of sessions whose PCI channel fails in the middle of a call or before they begin.

use super::{
    bed::{
        Bed,
        ALL, //
    },
    board::Hook,
    engine::FakeEngine,
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

/// A hook with a failure of the channel.
struct Fails(Arc<Machine<FakeEngine>>);

impl Hook for Fails {
    fn run(&self) {
        self.0.poison();
    }
}

/// Makes the channel fail in the middle of the call after the next `skipped` ones.
fn fail_in(bed: &Bed, skipped: usize) -> Result {
    let now = bed.board.with(|d| d.calls.len());
    let hook = KBox::new(Fails(bed.machine.clone()), GFP_KERNEL)?;
    bed.board.during(now + skipped, hook);
    Ok(())
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
}
