// SPDX-License-Identifier: Apache-2.0 OR MIT

//! START and REPORT of the log.

use rustix::io::Errno;

use super::{
    judged::{demand, Judged},
    Log, Model,
};
use crate::check::walk::subject::Subject;

impl Model {
    pub(super) fn start(&mut self, subject: &mut impl Subject, range: (u64, u64)) -> Judged {
        let answer = subject.start(range);
        if self.log.is_some() {
            return demand(answer.is_err(), &answer, "an error (log is on)");
        }
        demand(answer.is_ok(), &answer, "success")?;
        self.log = Some(Log {
            range,
            shaken: false,
        });
        Ok(())
    }

    pub(super) fn report(&mut self, subject: &mut impl Subject, range: (u64, u64)) -> Judged {
        let Some(log) = self.log else {
            let answer = subject.report(range);
            return demand(answer.is_err(), &answer, "an error (log is off)");
        };
        if log.range != range {
            // Not specified outside of what was started.
            return Ok(());
        }
        let answer = subject.report(range);
        let lost = log.shaken && answer == Err(Errno::IO);
        demand(
            lost || answer == Ok(0),
            &answer,
            "success without a bit beyond the range",
        )
    }
}
