// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The ways that cases go often: into a state, through a stream, back to RUNNING.

use std::{
    fs::File,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::{event::PollFlags, io::Errno};

use super::{
    dut::Dut,
    verdict::{accepted, deviation, ensure, name, Outcome},
};
use crate::state::State;

/// How long a stream may take to come to an end, whatever the device: emulated ones are slow.
const STREAM_LIMIT: Duration = Duration::from_secs(60);

/// How a stream ended for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// read() said 0.
    Eof,
    /// read() said ENOMSG.
    Idle,
}

/// How a device came back to RUNNING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// By the state machine.
    Orderly,
    /// By VFIO_DEVICE_RESET, from this state; the only way out of RESUMING and ERROR.
    Reset(Option<State>),
    /// Closed and opened again.
    Reopened,
}

impl Dut {
    /// SET that has to succeed, whatever its file.
    ///
    /// # Errors
    ///
    /// A deviation: it was refused.
    pub fn go(&self, state: State) -> Outcome<Option<File>> {
        let from = self.get()?;
        accepted(format!("SET {from} -> {state}"), self.set(state))
    }

    /// SET that has to succeed and to give a data file.
    ///
    /// # Errors
    ///
    /// A deviation: it was refused, or there was no file.
    pub fn session(&self, state: State) -> Outcome<File> {
        let from = self.get()?;
        match self.go(state)? {
            Some(file) => Ok(file),
            None => deviation!("SET {from} -> {state} returned no data file"),
        }
    }

    /// Demands a state.
    ///
    /// # Errors
    ///
    /// A deviation: it is in another one.
    pub fn expect_state(&self, state: State, when: &str) -> Outcome {
        let is = accepted("GET of the state", self.get())?;
        ensure!(is == state, "{when} the device is in {is}, not in {state}");
        Ok(())
    }

    /// The whole state, from a stopped device; ends in STOP_COPY.
    ///
    /// # Errors
    ///
    /// A deviation: the stream did not end as it should.
    pub fn image(&self) -> Outcome<Vec<u8>> {
        let file = self.session(State::StopCopy)?;
        let (image, end) = drain(&file, 1 << 20)?;
        ensure!(end == End::Eof, "read() in STOP_COPY said ENOMSG");
        Ok(image)
    }

    /// Goes from RUNNING to `state`, to RESUMING with `image` written, so that every state can be
    /// left again. The file of the session, if the state has one.
    ///
    /// # Errors
    ///
    /// A deviation: something was refused on the way.
    pub fn enter(&self, state: State, image: &[u8]) -> Outcome<Option<File>> {
        let file = self.go(state)?;
        ensure!(
            file.is_some() == state.has_session(),
            "SET RUNNING -> {state} returned {} data file",
            if file.is_some() { "a" } else { "no" }
        );
        if let (State::Resuming, Some(file)) = (state, &file) {
            accepted("write() of the image", self.write(file, image, 1 << 20))?;
        }
        Ok(file)
    }

    /// An image of the device as it is, which is RUNNING before and after.
    ///
    /// # Errors
    ///
    /// A deviation, as [`Dut::image`].
    pub fn own_image(&self) -> Outcome<Vec<u8>> {
        let image = self.image()?;
        self.go(State::Running)?;
        Ok(image)
    }

    /// Writes a stream into a RESUMING session, `piece` bytes at a time.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn write(&self, mut file: &File, image: &[u8], piece: usize) -> io::Result<()> {
        for part in image.chunks(piece.max(1)) {
            file.write_all(part)?;
        }
        Ok(())
    }

    /// Puts it right: no log, no session, RUNNING.
    ///
    /// # Errors
    ///
    /// Nothing leads there.
    pub fn settle(&mut self) -> anyhow::Result<Settled> {
        if self.device().is_err() {
            self.reopen()?;
            self.expect_running()?;
            return Ok(Settled::Reopened);
        }
        if self.has_logging() {
            if let Err(e) = self.log_stop() {
                log::debug!("{}: LOGGING_STOP: {e}", self.name());
            }
        }
        if self.migration().is_err() {
            return Ok(Settled::Orderly);
        }
        if self.set(State::Running).is_ok() && self.expect_running().is_ok() {
            return Ok(Settled::Orderly);
        }
        let stuck = self.get().ok();
        if self.reset().is_ok() && self.expect_running().is_ok() {
            return Ok(Settled::Reset(stuck));
        }
        self.reopen()?;
        self.expect_running()?;
        Ok(Settled::Reopened)
    }

    fn expect_running(&self) -> anyhow::Result<()> {
        if self.migration().is_err() {
            return Ok(());
        }
        let state = self.get().context("cannot ask for the state")?;
        anyhow::ensure!(
            state == State::Running,
            "the device is in {state}, not RUNNING"
        );
        Ok(())
    }
}

/// Reads until the stream ends, for now or for good, `piece` bytes at a time.
///
/// # Errors
///
/// A deviation: read() failed in another way than ENOMSG, or went on for too long.
pub fn drain(mut file: &File, piece: usize) -> Outcome<(Vec<u8>, End)> {
    let begin = Instant::now();
    let (mut all, mut buffer) = (Vec::new(), vec![0; piece.max(1)]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((all, End::Eof)),
            Ok(n) => all.extend(buffer.iter().take(n)),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOMSG) => {
                return Ok((all, End::Idle))
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => deviation!("read() failed with {} after {} bytes", name(&e), all.len()),
        }
        ensure!(
            begin.elapsed() < STREAM_LIMIT,
            "the stream has no end: {} bytes in {STREAM_LIMIT:?}",
            all.len()
        );
    }
}

/// What poll() says of a data file within `limit`.
///
/// # Errors
///
/// poll() failed.
pub fn poll(file: &File, limit: Duration) -> io::Result<PollFlags> {
    let all = PollFlags::IN | PollFlags::OUT | PollFlags::RDHUP;
    let mut polled = [rustix::event::PollFd::new(file, all)];
    let limit = rustix::event::Timespec::try_from(limit).map_err(io::Error::other)?;
    rustix::event::poll(&mut polled, Some(&limit))?;
    Ok(polled[0].revents())
}
