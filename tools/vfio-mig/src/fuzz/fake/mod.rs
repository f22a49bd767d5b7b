// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A simulated device, right or with one bug, for what the one of the walks lacks.

mod bug;

use rustix::io::Errno;

pub(super) use self::bug::Bug;
use super::{
    has::Has,
    target::{Polled, Target},
    wrong::{OnFile, Wrong},
};
use crate::{
    check::walk::{
        fake::Fake as Walker,
        subject::{Answer, Subject},
    },
    state::{path, MigrationFlags, State},
};

/// What a file has, besides what the walker knows.
#[derive(Clone, Default)]
struct Data {
    resuming: bool,
    alive: bool,
    taken: usize,
    left: usize,
    spoilt: bool,
    read: Vec<u8>,
}

/// See the module.
pub(super) struct Fake {
    walker: Walker,
    flags: MigrationFlags,
    bug: Option<Bug>,
    data: Vec<Data>,
    /// Its stream.
    pub(super) state: Vec<u8>,
    log: bool,
}

impl Fake {
    pub(super) fn new(flags: u64, bug: Option<Bug>) -> Self {
        let flags = MigrationFlags(flags);
        Self {
            walker: Walker::new(flags, None),
            flags,
            bug,
            data: Vec::new(),
            state: (0..200).collect(),
            log: false,
        }
    }

    pub(super) fn has(&self) -> Has {
        Has {
            flags: self.flags,
            logging: true,
            reset: true,
            registers: true,
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The session that goes on has ended.
    fn end(&mut self) {
        for data in &mut self.data {
            data.alive = false;
        }
    }

    fn refuses(&self) -> bool {
        let Some(data) = self.data.last().filter(|data| data.alive) else {
            return false;
        };
        let part = data.taken != 0 && data.taken != self.state.len();
        data.spoilt || part && !self.is(Bug::Truncated)
    }

    /// SET, and whether the user gets the file.
    fn moved(&mut self, number: u32, lost: bool) -> Answer<bool> {
        let from = self.walker.get()?;
        let to = State::try_from(number).map_err(|_| Errno::INVAL)?;
        let hops = path(self.flags, from, to).ok_or(Errno::INVAL)?;
        if from == State::Resuming && !hops.is_empty() && self.refuses() {
            return Err(Errno::INVAL);
        }
        if from == State::Resuming && !hops.is_empty() && self.is(Bug::LosesByte) {
            if let Some(byte) = self.state.last_mut() {
                *byte ^= 1;
            }
        }
        if lost && self.is(Bug::LostSetStays) {
            return Ok(false);
        }
        let came = self.walker.set(number)?;
        if to == State::StopCopy && !came && self.is(Bug::Torn) {
            if let Some(data) = self.data.last_mut() {
                data.left = data.left.saturating_sub(1);
            }
        }
        if came {
            self.end();
            self.data.push(Data {
                resuming: to == State::Resuming,
                alive: true,
                left: self.state.len(),
                ..Data::default()
            });
        } else if !to.has_session() {
            self.end();
        }
        Ok(came)
    }
}

impl Subject for Fake {
    fn begin(&mut self) -> anyhow::Result<()> {
        *self = Self::new(self.flags.0, self.bug);
        Ok(())
    }

    fn get(&mut self) -> Answer<State> {
        self.walker.get()
    }

    fn set(&mut self, state: u32) -> Answer<bool> {
        self.moved(state, false)
    }

    fn read(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let stopped = self.walker.get()? == State::StopCopy;
        let data = &mut self.data[file];
        match (data.resuming, data.alive) {
            (true, _) => Err(Errno::BADF),
            (false, false) => Err(Errno::NODEV),
            _ if data.left == 0 && !stopped => Err(Errno::NOMSG),
            _ => {
                let bytes = bytes.min(data.left);
                let rest = &self.state[self.state.len() - data.left..];
                data.read.extend_from_slice(&rest[..bytes]);
                data.left -= bytes;
                Ok(bytes)
            }
        }
    }

    fn write(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let data = &mut self.data[file];
        match (data.resuming, data.alive) {
            (false, _) => Err(Errno::BADF),
            (true, false) => Err(Errno::NODEV),
            _ => {
                data.spoilt = true;
                Ok(bytes)
            }
        }
    }

    fn precopy(&mut self, file: usize) -> Answer<u64> {
        let state = self.walker.get()?;
        let data = &self.data[file];
        let pre_copy = matches!(state, State::PreCopy | State::PreCopyP2p);
        let valid = !data.resuming && data.alive && pre_copy;
        valid.then_some(data.left as u64).ok_or(Errno::INVAL)
    }

    fn close(&mut self, _file: usize) {}

    fn size(&mut self) -> Answer<u64> {
        self.walker.size()
    }

    fn reset(&mut self) -> Answer<()> {
        self.end();
        self.walker.reset()
    }

    fn start(&mut self, _range: (u64, u64)) -> Answer<()> {
        match std::mem::replace(&mut self.log, true) {
            true => Err(Errno::INVAL),
            false => Ok(()),
        }
    }

    fn report(&mut self, _range: (u64, u64)) -> Answer<u32> {
        self.log.then_some(0).ok_or(Errno::INVAL)
    }

    fn stop(&mut self) -> Answer<()> {
        self.log = false;
        Ok(())
    }
}

impl Target for Fake {
    fn wrong(&mut self, wrong: Wrong) -> Answer<()> {
        let wanted = wrong.wanted(&self.has(), self.log);
        match wrong {
            Wrong::Probe(..) if self.is(Bug::ProbeAlways) => return Ok(()),
            Wrong::Get(..) | Wrong::Set(_) if self.is(Bug::ShortStruct) => return Ok(()),
            // The fifth and sixth of the list.
            Wrong::Start(4 | 5) if self.is(Bug::Overlap) => return Ok(()),
            Wrong::StartLost if self.is(Bug::LostStartStays) => self.log = true,
            _ => {}
        }
        match wanted.errnos.first() {
            Some(errno) if !wanted.success => Err(*errno),
            _ => Ok(()),
        }
    }

    fn on_file(&mut self, file: usize, call: OnFile) -> Answer<()> {
        let data = self.data[file].clone();
        if matches!(call, OnFile::Ioctl(_)) && self.is(Bug::AnyIoctl) {
            return Ok(());
        }
        let wanted = call.wanted(data.resuming, data.alive);
        wanted.errnos.first().map_or(Ok(()), |errno| Err(*errno))
    }

    fn lost(&mut self, state: u32) -> Answer<()> {
        // The model learns of a refusal from GET only.
        let _ = self.moved(state, true);
        Err(Errno::FAULT)
    }

    fn skip_file(&mut self) {}

    fn write_bytes(&mut self, file: usize, bytes: &[u8]) -> Answer<usize> {
        let pieces = self.data[file].taken != 0 && self.is(Bug::PiecesRefused);
        let data = &mut self.data[file];
        match (data.resuming, data.alive) {
            (false, _) => Err(Errno::BADF),
            (true, false) => Err(Errno::NODEV),
            _ if pieces => Err(Errno::INVAL),
            _ => {
                data.taken += bytes.len();
                Ok(bytes.len())
            }
        }
    }

    fn taken(&self, file: usize) -> Vec<u8> {
        self.data[file].read.clone()
    }

    fn poke(&mut self, _offset: u16, value: u32) -> Answer<()> {
        if let Some(byte) = self.state.first_mut() {
            *byte = value as u8;
        }
        Ok(())
    }

    fn read_now(&mut self, file: usize, bytes: usize) -> Answer<usize> {
        let (state, early) = (self.walker.get()?, self.is(Bug::NonblockEnd));
        if early && state != State::StopCopy && self.data[file].alive {
            return Ok(0);
        }
        self.read(file, bytes)
    }

    fn poll(&mut self, file: usize, _wait: bool) -> Answer<Polled> {
        let stopped = self.walker.get()? == State::StopCopy;
        let data = self.data[file].clone();
        let readable = !data.alive && !self.is(Bug::DeafPoll)
            || data.alive && (stopped || data.left != 0 || self.is(Bug::RashPoll));
        Ok(Polled {
            readable: readable && !data.resuming,
            hung_up: !data.alive && !self.is(Bug::DeafPoll),
            broken: false,
            writable: data.resuming,
        })
    }

    fn elsewhere(&mut self, _number: u8) -> Answer<u32> {
        let stray = u32::from(self.is(Bug::StrayBit));
        self.log.then_some(stray).ok_or(Errno::INVAL)
    }

    fn reopen(&mut self) -> anyhow::Result<()> {
        if !self.is(Bug::OutliveClose) {
            self.end();
        }
        self.walker = Walker::new(self.flags, None);
        self.log = false;
        Ok(())
    }

    fn read_all(&mut self, file: usize) -> Answer<Vec<u8>> {
        match self.data[file].alive {
            true => Ok(self.state.clone()),
            false => Err(Errno::NODEV),
        }
    }

    fn write_all(&mut self, file: usize, stream: &[u8], piece: usize) -> Answer<()> {
        let pieces = self.is(Bug::PiecesRefused) && piece < stream.len();
        if pieces || stream.len() != self.state.len() {
            return Err(Errno::INVAL);
        }
        self.data[file].taken = stream.len();
        Ok(())
    }
}
