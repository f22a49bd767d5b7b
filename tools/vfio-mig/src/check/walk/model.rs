// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the uAPI says that each step of a walk does.

use rustix::io::Errno;

use super::{
    step::{range, Step},
    subject::{Answer, Subject},
};
use crate::{
    check::verdict::errno_name,
    state::{path, MigrationFlags, State},
};

/// How much of a good stream was written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Good {
    /// Nothing.
    #[default]
    Nothing,
    /// Some of it.
    Part,
    /// All of it.
    Whole,
}

/// A data file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session {
    pub(crate) resuming: bool,
    /// The user has not closed it.
    open: bool,
    /// Its session has not ended.
    pub(crate) alive: bool,
    /// read() has said 0 in STOP_COPY.
    pub(crate) ended: bool,
    /// PRECOPY_INFO or poll() has just said that there is something to read. `dirty_bytes` is an
    /// estimate (uapi:1261): a driver that reads ahead cannot know what comes of a read in flight.
    pub(crate) owed: bool,
    /// Bytes of no meaning were written.
    pub(crate) spoilt: bool,
    /// A write has failed.
    pub(crate) failed: bool,
    /// What was written of a good stream.
    pub(crate) good: Good,
}

impl Session {
    /// Judges the answer to a write that the state of the file forbids; `None` if it does not.
    pub(crate) fn refusal_of_a_write(&self, answer: &Answer<usize>) -> Option<Judged> {
        let (errno, wanted) = match (self.resuming, self.alive) {
            (false, _) => (Errno::BADF, "EBADF (saving)"),
            (true, false) => (Errno::NODEV, "ENODEV (ended session)"),
            (true, true) => return None,
        };
        Some(demand(*answer == Err(errno), answer, wanted))
    }
}

/// A log.
#[derive(Clone, Copy, Debug)]
struct Log {
    range: (u64, u64),
    /// There was a reset: the driver may have to give the log up.
    shaken: bool,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    flags: MigrationFlags,
    state: State,
    files: Vec<Session>,
    /// The file whose session goes on.
    current: Option<usize>,
    log: Option<Log>,
}

/// What is wrong.
pub(crate) type Judged = Result<(), String>;

/// Says what came instead.
fn told<T: std::fmt::Debug>(answer: &Answer<T>) -> String {
    match answer {
        Ok(value) => format!("gave {value:?}"),
        Err(errno) => format!("failed with {}", errno_name(*errno)),
    }
}

pub(crate) fn demand<T: std::fmt::Debug>(holds: bool, answer: &Answer<T>, wanted: &str) -> Judged {
    if holds {
        Ok(())
    } else {
        Err(format!("{} instead of {wanted}", told(answer)))
    }
}

fn is_saving(state: State) -> bool {
    matches!(state, State::PreCopy | State::PreCopyP2p | State::StopCopy)
}

impl Model {
    /// Of a device that was just opened.
    pub fn new(flags: MigrationFlags) -> Self {
        Self {
            flags,
            state: State::Running,
            files: Vec::new(),
            current: None,
            log: None,
        }
    }

    /// Does a step and judges what came.
    ///
    /// # Errors
    ///
    /// What the device did and should not have.
    pub fn step(&mut self, subject: &mut impl Subject, step: Step) -> Judged {
        match step {
            Step::Set(number) if self.state == State::Error => {
                // Only a reset helps; the core warns about everything else in the kernel log.
                log::debug!("SET {number} in ERROR is left out");
            }
            Step::Set(number) => {
                let answer = subject.set(number);
                self.moved(subject, number, answer)?;
            }
            Step::Read(file, bytes) => {
                if let Some(number) = self.pick(file) {
                    let answer = subject.read(number, usize::from(bytes));
                    self.judge_read(number, usize::from(bytes), answer)?;
                }
            }
            Step::Write(file, bytes) => self.write(subject, file, bytes)?,
            Step::Precopy(file) => self.precopy(subject, file)?,
            Step::Close(file) => {
                if let Some(number) = self.pick(file) {
                    self.close(subject, number);
                }
            }
            Step::Size => {
                let answer = subject.size();
                let broken = self.state == State::Error;
                demand(answer.is_ok() || broken, &answer, "an estimate")?;
            }
            Step::Reset => self.reset(subject)?,
            Step::Start(number) => self.start(subject, range(number))?,
            Step::Report(number) => self.report(subject, range(number))?,
            Step::Stop => {
                let answer = subject.stop();
                demand(answer.is_ok(), &answer, "success")?;
                self.log = None;
            }
        }
        self.look(subject)
    }

    /// GET agrees.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn look(&self, subject: &mut impl Subject) -> Judged {
        match subject.get() {
            Ok(state) if state == self.state => Ok(()),
            Ok(state) => Err(format!("left the device in {state}, not in {}", self.state)),
            Err(errno) => Err(format!("made GET fail with {}", errno_name(errno))),
        }
    }

    /// The state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Number of files that there were.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Is the log on?
    pub(crate) fn log_is_on(&self) -> bool {
        self.log.is_some()
    }

    /// May REPORT fail, because there was a reset since START?
    pub(crate) fn log_is_shaken(&self) -> bool {
        self.log.is_some_and(|log| log.shaken)
    }

    /// The device was closed and opened: files stay.
    pub(crate) fn reopened(&mut self) {
        self.end_session();
        self.state = State::Running;
        self.log = None;
    }

    /// Closes a file.
    pub(crate) fn close(&mut self, subject: &mut impl Subject, number: usize) {
        subject.close(number);
        self.file(number).open = false;
    }

    /// The user lost the file that it got last.
    pub(crate) fn lost_file(&mut self) {
        if let Some(file) = self.files.last_mut() {
            file.open = false;
        }
    }

    /// Number of the file that a step means; `u8::MAX` is the latest that is open.
    pub(crate) fn pick(&self, file: u8) -> Option<usize> {
        let open: Vec<usize> = (0..self.files.len())
            .filter(|number| self.files.get(*number).is_some_and(|file| file.open))
            .collect();
        match file {
            u8::MAX => open.last().copied(),
            _ => open
                .get(usize::from(file).checked_rem(open.len())?)
                .copied(),
        }
    }

    pub(crate) fn file(&mut self, number: usize) -> &mut Session {
        while self.files.len() <= number {
            self.files.push(Session::default());
        }
        &mut self.files[number]
    }

    fn end_session(&mut self) {
        if let Some(number) = self.current.take() {
            self.file(number).alive = false;
        }
    }

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

    fn write(&mut self, subject: &mut impl Subject, file: u8, bytes: u16) -> Judged {
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

    fn precopy(&mut self, subject: &mut impl Subject, file: u8) -> Judged {
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

    fn reset(&mut self, subject: &mut impl Subject) -> Judged {
        let answer = subject.reset();
        demand(answer.is_ok(), &answer, "success")?;
        self.state = State::Running;
        self.end_session();
        if let Some(log) = &mut self.log {
            log.shaken = true;
        }
        Ok(())
    }

    fn start(&mut self, subject: &mut impl Subject, range: (u64, u64)) -> Judged {
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

    fn report(&mut self, subject: &mut impl Subject, range: (u64, u64)) -> Judged {
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
