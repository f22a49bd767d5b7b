// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls on data files.

use rustix::io::Errno;

use super::{
    judged::{demand, Judged},
    Model,
};
use crate::{
    check::walk::subject::{Answer, Subject},
    state::State,
};

impl Model {
    /// read() of at most `most` bytes of a file was answered.
    ///
    /// # Errors
    ///
    /// What the device did and should not have.
    pub(crate) fn judge_read(
        &mut self,
        number: usize,
        most: usize,
        answer: Answer<usize>,
    ) -> Judged {
        let state = self.state;
        let session = self.file(number);
        if session.resuming {
            return demand(answer == Err(Errno::BADF), &answer, "EBADF (RESUMING)");
        }
        if !session.alive {
            return demand(
                answer == Err(Errno::NODEV),
                &answer,
                "ENODEV (ended session)",
            );
        }
        if state == State::StopCopy {
            let ended = std::mem::replace(&mut session.ended, answer == Ok(0));
            let well = answer.is_ok_and(|n| n <= most && !(ended && n != 0));
            let wanted = if ended {
                "0 (end of stream)"
            } else {
                "data or 0"
            };
            return demand(well, &answer, wanted);
        }
        let owed = std::mem::take(&mut session.owed);
        match answer {
            Ok(n) => demand((1..=most).contains(&n), &answer, "data or ENOMSG"),
            Err(Errno::NOMSG) => demand(!owed, &answer, "the data that PRECOPY_INFO told of"),
            Err(_) => demand(false, &answer, "data or ENOMSG"),
        }
    }

    pub(super) fn write(&mut self, subject: &mut impl Subject, file: u8, bytes: u16) -> Judged {
        let Some(number) = self.pick(file) else {
            return Ok(());
        };
        let most = usize::from(bytes);
        let answer = subject.write(number, most);
        let session = self.file(number);
        if let Some(judged) = session.refusal_of_a_write(&answer) {
            return judged;
        }
        session.spoilt = true;
        match answer {
            Ok(n) => demand((1..=most).contains(&n), &answer, "some bytes or an error"),
            Err(Errno::NODEV) => demand(session.failed, &answer, "a reason"),
            Err(_) => {
                session.failed = true;
                Ok(())
            }
        }
    }

    pub(super) fn precopy(&mut self, subject: &mut impl Subject, file: u8) -> Judged {
        let Some(number) = self.pick(file) else {
            return Ok(());
        };
        let state = self.state;
        let answer = subject.precopy(number);
        let session = self.file(number);
        let valid = session.alive && matches!(state, State::PreCopy | State::PreCopyP2p);
        if valid {
            session.owed = answer.is_ok_and(|bytes| bytes != 0);
            return demand(answer.is_ok(), &answer, "an estimate");
        }
        demand(answer.is_err(), &answer, "an error: no pre-copy session")
    }
}
