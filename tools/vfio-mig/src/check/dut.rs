// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One device under test: single calls, and the ways that cases go often.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::{event::PollFlags, io::Errno};
use vfio_bindings::bindings::vfio as vb;

use super::verdict::{accepted, deviation, ensure, name, Outcome};
use crate::{
    device::{Backend, Device},
    discover::{Node, Sysfs},
    session::Migratable,
    state::{MigrationFlags, State},
    sys,
};

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
    /// By VFIO_DEVICE_RESET.
    Reset,
    /// Closed and opened again.
    Reopened,
}

/// One device under test.
pub struct Dut {
    name: String,
    backend: Backend,
    device: Option<Arc<Device>>,
    opened_in: Option<State>,
    migration: Result<MigrationFlags, i32>,
    logging: bool,
    reset: bool,
}

impl Dut {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// There is no such device, or it cannot be opened.
    pub fn open(name: &str, backend: Backend) -> anyhow::Result<Self> {
        let mut dut = Self {
            name: name.to_owned(),
            backend,
            device: None,
            opened_in: None,
            migration: Err(0),
            logging: false,
            reset: false,
        };
        let device = dut.reopen()?;
        // The same way from now on.
        dut.backend = device.backend();
        dut.migration = device.migration();
        dut.logging = device.has_logging();
        dut.reset = sys::device_flags(device.fd())? & vb::VFIO_DEVICE_FLAGS_RESET != 0;
        Ok(dut)
    }

    /// Its name in sysfs, as given by the user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is opened.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Its place in sysfs.
    ///
    /// # Errors
    ///
    /// It is not open.
    pub fn node(&self) -> anyhow::Result<Node> {
        Ok(self.device()?.node().clone())
    }

    /// The open device, to share with threads.
    ///
    /// # Errors
    ///
    /// It is not open.
    pub fn device(&self) -> anyhow::Result<Arc<Device>> {
        self.device.clone().context("the device is not open")
    }

    fn with<T>(&self, call: impl FnOnce(&Device) -> io::Result<T>) -> io::Result<T> {
        match &self.device {
            Some(device) => call(device),
            None => Err(io::Error::other("the device is not open")),
        }
    }

    /// Closes it. Data files stay as they are.
    ///
    /// # Errors
    ///
    /// A thread still uses it.
    pub fn close(&mut self) -> anyhow::Result<()> {
        if let Some(device) = self.device.take() {
            let left = Arc::try_unwrap(device).map_err(|device| self.device = Some(device));
            if left.is_err() {
                anyhow::bail!("the device is still in use by a thread of an earlier case");
            }
        }
        Ok(())
    }

    /// Closes it if need be and opens it again: it forgets PRECOPY_INFOv2. One that is not
    /// RUNNING then is reset: whatever session it means, nobody has its file, and a driver may
    /// follow a pointer to it that is gone. See [`Dut::opened_in`].
    ///
    /// # Errors
    ///
    /// It cannot be opened, or a thread still uses it.
    pub fn reopen(&mut self) -> anyhow::Result<Arc<Device>> {
        self.close()?;
        // Looked for each time: a device that was bound again has another node in /dev.
        let node = Sysfs::default().find(&self.name)?;
        let device = Arc::new(Device::open(&node, self.backend)?);
        self.device = Some(Arc::clone(&device));
        self.opened_in = None;
        if device.migration().is_ok() {
            let state = device.state().context("cannot ask for the state")?;
            self.opened_in = Some(state);
            if state != State::Running {
                device.reset().context("not RUNNING, and cannot be reset")?;
            }
        }
        Ok(device)
    }

    /// The state that it was in when it was last opened.
    pub fn opened_in(&self) -> Option<State> {
        self.opened_in
    }

    /// Its migration flags; none without migration.
    pub fn flags(&self) -> MigrationFlags {
        self.migration.unwrap_or_default()
    }

    /// Its migration flags, or what the kernel said.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn migration(&self) -> io::Result<MigrationFlags> {
        self.migration.map_err(io::Error::from_raw_os_error)
    }

    /// Has it DMA logging?
    pub fn has_logging(&self) -> bool {
        self.logging
    }

    /// Does VFIO_DEVICE_GET_INFO promise VFIO_DEVICE_RESET?
    pub fn has_reset(&self) -> bool {
        self.reset
    }

    /// The states that it has, without ERROR.
    pub fn states(&self) -> Vec<State> {
        let flags = self.flags();
        let all = State::ALL.into_iter();
        all.filter(|state| *state != State::Error && flags.has(*state))
            .collect()
    }

    /// `VFIO_DEVICE_FEATURE` with any flags and argsz, see [`sys::feature`].
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn feature(&self, flags: u32, argsz: u32, payload: [u64; 8]) -> io::Result<[u64; 8]> {
        self.with(|device| sys::feature(device.fd(), flags, argsz, payload))
    }

    /// SET of a state.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn set(&self, state: State) -> io::Result<Option<File>> {
        self.set_number(state as u32)
    }

    /// SET of a state by any number.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn set_number(&self, state: u32) -> io::Result<Option<File>> {
        self.with(|device| sys::set_state(device.fd(), state))
    }

    /// GET of the state.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn get(&self) -> io::Result<State> {
        self.with(Migratable::state)
    }

    /// VFIO_DEVICE_RESET.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn reset(&self) -> io::Result<()> {
        self.with(|device| sys::reset(device.fd()))
    }

    /// The device file, for calls of [`sys`].
    ///
    /// # Errors
    ///
    /// What `call` says.
    pub fn raw<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.with(|device| call(device.fd()))
    }

    /// LOGGING_START; answers with the page size.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn log_start(&self, page_size: u64, ranges: &[(u64, u64)]) -> io::Result<u64> {
        self.raw(|fd| sys::log_start(fd, page_size, ranges))
    }

    /// LOGGING_REPORT into `bitmap`.
    ///
    /// # Errors
    ///
    /// The kernel's errno; `InvalidInput` when the bitmap is too short.
    pub fn log_report(
        &self,
        (iova, length): (u64, u64),
        page_size: u64,
        bitmap: &mut [u64],
    ) -> io::Result<()> {
        self.raw(|fd| sys::log_report(fd, iova, length, page_size, bitmap))
    }

    /// MIG_DATA_SIZE.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn data_size(&self) -> io::Result<u64> {
        self.with(Migratable::data_size)
    }

    /// LOGGING_STOP.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn log_stop(&self) -> io::Result<()> {
        let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
        self.feature(flags, 8, [0; 8]).map(drop)
    }

    /// Opts in to PRECOPY_INFOv2, until it is closed.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn opt_in_v2(&self) -> io::Result<()> {
        let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2;
        self.feature(flags, 8, [0; 8]).map(drop)
    }

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
        if self.device.is_none() {
            self.reopen()?;
            self.expect_running()?;
            return Ok(Settled::Reopened);
        }
        if self.logging {
            if let Err(e) = self.log_stop() {
                log::debug!("{}: LOGGING_STOP: {e}", self.name);
            }
        }
        if self.migration.is_err() {
            return Ok(Settled::Orderly);
        }
        if self.set(State::Running).is_ok() && self.expect_running().is_ok() {
            return Ok(Settled::Orderly);
        }
        if self.reset().is_ok() && self.expect_running().is_ok() {
            return Ok(Settled::Reset);
        }
        self.reopen()?;
        self.expect_running()?;
        Ok(Settled::Reopened)
    }

    fn expect_running(&self) -> anyhow::Result<()> {
        if self.migration.is_err() {
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
