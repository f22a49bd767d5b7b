// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A simulated device, right or with one bug.

use rustix::io::Errno;

use super::subject::{Answer, Subject};
use crate::state::{path, MigrationFlags, State};

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A reset does not end the session.
    ResetKeepsSession,
    /// The end of the pre-copied data looks like the end of the stream.
    ZeroInPreCopy,
    /// STOP_COPY can be left for PRE_COPY.
    BackToPreCopy,
    /// PRE_COPY to PRE_COPY_P2P gives another file.
    SecondFile,
    /// A refused SET moves the device to STOP.
    RefusedSetMoves,
    /// Leaving STOP_COPY stops the log, as in pds.
    LogEnds,
    /// A second START is taken, as in mtty.
    DoubleStart,
    /// A new session makes ended files readable.
    ReviveFiles,
    /// Whatever was written is taken, as in mlx5.
    TakesAnything,
    /// Data after the end of the stream.
    DataAfterEnd,
    /// PRECOPY_INFO also works in STOP_COPY.
    PrecopyWhenStopped,
}

impl Bug {
    /// All, and how many steps show each.
    pub(crate) const ALL: [(Self, usize); 11] = [
        (Self::ResetKeepsSession, 3),
        (Self::ZeroInPreCopy, 3),
        (Self::BackToPreCopy, 2),
        (Self::SecondFile, 2),
        (Self::RefusedSetMoves, 2),
        (Self::LogEnds, 4),
        (Self::DoubleStart, 2),
        (Self::ReviveFiles, 4),
        (Self::TakesAnything, 3),
        (Self::DataAfterEnd, 4),
        (Self::PrecopyWhenStopped, 2),
    ];
}

struct FakeFile {
    resuming: bool,
    alive: bool,
    left: usize,
    written: usize,
}

/// See the module.
pub(crate) struct Fake {
    flags: MigrationFlags,
    bug: Option<Bug>,
    state: State,
    files: Vec<FakeFile>,
    current: Option<usize>,
    log: bool,
    /// It cannot be brought back to RUNNING.
    pub(crate) stuck: bool,
}

impl Fake {
    pub(crate) fn new(flags: MigrationFlags, bug: Option<Bug>) -> Self {
        Self {
            flags,
            bug,
            state: State::Running,
            files: Vec::new(),
            current: None,
            log: false,
            stuck: false,
        }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn end(&mut self) {
        if let Some(number) = self.current.take() {
            self.files[number].alive = false;
        }
    }

    fn open(&mut self, resuming: bool) {
        self.end();
        if self.has(Bug::ReviveFiles) {
            self.files.iter_mut().for_each(|file| file.alive = true);
        }
        self.current = Some(self.files.len());
        self.files.push(FakeFile {
            resuming,
            alive: true,
            left: 100,
            written: 0,
        });
    }

    fn hop(&mut self, to: State) -> Answer<bool> {
        use State::*;
        if self.state == Resuming {
            let file = &self.files[self.current.unwrap()];
            if !self.has(Bug::TakesAnything) && file.written > 0 {
                return Err(Errno::INVAL);
            }
        }
        if self.state == StopCopy && self.has(Bug::LogEnds) {
            self.log = false;
        }
        let opens = match (self.state, to) {
            (PreCopy | PreCopyP2p, StopCopy) => {
                self.files[self.current.unwrap()].left += 50;
                false
            }
            (PreCopy, PreCopyP2p) => self.has(Bug::SecondFile),
            (PreCopyP2p, PreCopy) => false,
            (_, to) => to.has_session(),
        };
        if opens {
            self.open(to == Resuming);
        } else if !to.has_session() {
            self.end();
        }
        self.state = to;
        Ok(opens)
    }
}

impl Subject for Fake {
    fn begin(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.stuck, "stuck");
        *self = Self::new(self.flags, self.bug);
        Ok(())
    }

    fn get(&mut self) -> Answer<State> {
        Ok(self.state)
    }

    fn set(&mut self, state: u32) -> Answer<bool> {
        let to = State::try_from(state).map_err(|_| Errno::INVAL);
        let mut hops = to.map(|to| path(self.flags, self.state, to));
        if self.has(Bug::BackToPreCopy) && self.state == State::StopCopy && to == Ok(State::PreCopy)
        {
            hops = Ok(Some(vec![State::PreCopy]));
        }
        let Ok(Some(hops)) = hops else {
            if self.has(Bug::RefusedSetMoves) {
                self.end();
                self.state = State::Stop;
            }
            return Err(Errno::INVAL);
        };
        let mut opened = false;
        for hop in hops {
            opened = self.hop(hop)?;
        }
        Ok(opened)
    }

    fn read(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let (zero, again) = (self.has(Bug::ZeroInPreCopy), self.has(Bug::DataAfterEnd));
        let stopped = self.state == State::StopCopy;
        let file = &mut self.files[file];
        if file.resuming {
            return Err(Errno::BADF);
        }
        if !file.alive {
            return Err(Errno::NODEV);
        }
        if file.left == 0 && !stopped && !zero {
            return Err(Errno::NOMSG);
        }
        let bytes = bytes.min(file.left);
        file.left -= bytes;
        if bytes == 0 && again {
            file.left = 1;
        }
        Ok(bytes)
    }

    fn write(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let file = &mut self.files[file];
        match (file.resuming, file.alive) {
            (false, _) => Err(Errno::BADF),
            (true, false) => Err(Errno::NODEV),
            (true, true) => {
                file.written += bytes;
                Ok(bytes)
            }
        }
    }

    fn precopy(&mut self, file: usize) -> Answer<u64> {
        let stopped = self.state == State::StopCopy && !self.has(Bug::PrecopyWhenStopped);
        let file = &self.files[file];
        if file.resuming || !file.alive || stopped {
            return Err(Errno::INVAL);
        }
        Ok(file.left as u64)
    }

    fn close(&mut self, _file: usize) {}

    fn size(&mut self) -> Answer<u64> {
        Ok(150)
    }

    fn reset(&mut self) -> Answer<()> {
        if !self.has(Bug::ResetKeepsSession) {
            self.end();
        }
        self.current = None;
        self.state = State::Running;
        Ok(())
    }

    fn start(&mut self, _range: (u64, u64)) -> Answer<()> {
        if self.log && !self.has(Bug::DoubleStart) {
            return Err(Errno::INVAL);
        }
        self.log = true;
        Ok(())
    }

    fn report(&mut self, _range: (u64, u64)) -> Answer<u32> {
        self.log.then_some(0).ok_or(Errno::INVAL)
    }

    fn stop(&mut self) -> Answer<()> {
        self.log = false;
        Ok(())
    }
}
