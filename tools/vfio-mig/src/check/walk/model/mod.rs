// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the uAPI says that each step of a walk does.

mod arcs;
mod data;
mod dirty;
mod judged;
mod session;

pub(crate) use self::{
    judged::{demand, Judged},
    session::{Good, Session},
};
use super::{
    step::{range, Step},
    subject::Subject,
};
use crate::{
    check::verdict::errno_name,
    state::{MigrationFlags, State},
};

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
}
