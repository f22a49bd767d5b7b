// SPDX-License-Identifier: Apache-2.0 OR MIT

//! SET of a state.

use rustix::io::Errno;

use super::{
    judged::{demand, Judged},
    session::{Good, Session},
    Model,
};
use crate::{
    check::{
        verdict::errno_name,
        walk::subject::{Answer, Subject},
    },
    state::{path, State},
};

fn is_saving(state: State) -> bool {
    matches!(state, State::PreCopy | State::PreCopyP2p | State::StopCopy)
}

impl Model {
    /// SET of `number` was answered. The state is not ERROR.
    ///
    /// # Errors
    ///
    /// What the device did and should not have.
    pub(crate) fn moved(
        &mut self,
        subject: &mut impl Subject,
        number: u32,
        answer: Answer<bool>,
    ) -> Judged {
        let from = self.state;
        let to = State::try_from(number).ok();
        let hops = to.and_then(|to| path(self.flags, from, to));
        let (Some(to), Some(hops)) = (to, hops) else {
            return demand(answer == Err(Errno::INVAL), &answer, "EINVAL");
        };
        let before = hops.len().checked_sub(2).and_then(|at| hops.get(at));
        let before = before.copied().unwrap_or(from);
        let opens = to != from && to.has_session() && !(is_saving(before) && is_saving(to));
        if from == State::Resuming && to != from {
            let number = self.current;
            let written = number.map_or_else(Session::default, |number| *self.file(number));
            if answer.is_err() {
                let whole = !written.spoilt && written.good == Good::Whole;
                demand(!whole, &answer, "success: a good stream was written")?;
                return self.stay_resuming(subject, &hops);
            }
            let none = written.spoilt || written.good == Good::Part;
            demand(!none, &answer, "an error: what was written is no stream")?;
        }
        demand(
            answer == Ok(opens),
            &answer,
            if opens { "a new file" } else { "no new file" },
        )?;
        self.state = to;
        if opens {
            self.end_session();
            let number = self.files.len();
            self.files.push(Session {
                resuming: to == State::Resuming,
                open: true,
                alive: true,
                ..Session::default()
            });
            self.current = Some(number);
        } else if !to.has_session() {
            self.end_session();
        } else if let Some(number) = self.current {
            self.file(number).owed = false;
        }
        Ok(())
    }

    /// RESUMING was not left: the device may also have given up, or fail later on the way.
    fn stay_resuming(&mut self, subject: &mut impl Subject, hops: &[State]) -> Judged {
        let state = subject
            .get()
            .map_err(|errno| format!("failed, and GET then failed with {}", errno_name(errno)))?;
        if state == State::Resuming {
            return Ok(());
        }
        if state != State::Error && !hops.contains(&state) {
            return Err(format!("failed and left the device in {state}"));
        }
        self.end_session();
        self.state = state;
        Ok(())
    }
}
