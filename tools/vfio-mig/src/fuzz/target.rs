// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What sequences are done to: a device, or in tests a simulated one.

use std::{
    fs::File,
    io::{Read, Write},
    time::Duration,
};

use rustix::{
    event::PollFlags,
    fs::{fcntl_getfl, fcntl_setfl, OFlags},
    io::Errno,
};

use super::wrong::{self, OnFile, Wrong};
use crate::{
    check::{
        walk::subject::{answer, restarted, Answer, Real, Subject},
        ways,
    },
    sys,
};

/// How long poll() may take to say that a stopped device has something to read.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a posted write may be under way.
const POSTED: Duration = Duration::from_millis(2);

/// What poll() says of a data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// POLLIN.
    pub readable: bool,
    /// POLLRDHUP.
    pub hung_up: bool,
    /// POLLERR, POLLHUP or POLLNVAL.
    pub broken: bool,
    /// POLLOUT: of a saving file it means that the driver has no poll().
    pub writable: bool,
}

/// A device with the calls that [`Subject`] lacks.
pub trait Target: Subject {
    /// Makes a call that is wrong on purpose.
    ///
    /// # Errors
    ///
    /// As for all that follow: the errno.
    fn wrong(&mut self, wrong: Wrong) -> Answer<()>;

    /// The same on a data file.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn on_file(&mut self, file: usize, call: OnFile) -> Answer<()>;

    /// SET of a state whose answer cannot be written.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn lost(&mut self, state: u32) -> Answer<()>;

    /// Counts the file of a session that the kernel made and that did not reach the caller.
    fn skip_file(&mut self);

    /// write() of these bytes.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn write_bytes(&mut self, file: usize, bytes: &[u8]) -> Answer<usize>;

    /// read() with O_NONBLOCK.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn read_now(&mut self, file: usize, bytes: usize) -> Answer<usize>;

    /// All that was read from a file.
    fn taken(&self, file: usize) -> Vec<u8>;

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn poke(&mut self, offset: u16, value: u32) -> Answer<()>;

    /// poll(), which waits for POLLIN if `wait` is set.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn poll(&mut self, file: usize, wait: bool) -> Answer<Polled>;

    /// REPORT of one of [`wrong::ODD_REPORTS`]: number of bits beyond the range.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn elsewhere(&mut self, number: u8) -> Answer<u32>;

    /// Closes the device and opens it again.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    fn reopen(&mut self) -> anyhow::Result<()>;

    /// Reads a stream to its end.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn read_all(&mut self, file: usize) -> Answer<Vec<u8>>;

    /// Writes a stream in pieces.
    ///
    /// # Errors
    ///
    /// See [`Target::wrong`].
    fn write_all(&mut self, file: usize, stream: &[u8], piece: usize) -> Answer<()>;
}

impl Target for Real<'_> {
    fn wrong(&mut self, wrong: Wrong) -> Answer<()> {
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        wrong.call(device.fd())
    }

    fn on_file(&mut self, file: usize, call: OnFile) -> Answer<()> {
        call.call(self.file(file)?)
    }

    fn lost(&mut self, state: u32) -> Answer<()> {
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        answer(sys::set_state_unwritable(device.fd(), state))
    }

    fn skip_file(&mut self) {
        self.files.push(None);
    }

    fn write_bytes(&mut self, file: usize, bytes: &[u8]) -> Answer<usize> {
        let mut file = self.file(file)?;
        restarted(|| file.write(bytes))
    }

    fn taken(&self, file: usize) -> Vec<u8> {
        self.taken.get(file).cloned().unwrap_or_default()
    }

    fn poke(&mut self, offset: u16, value: u32) -> Answer<()> {
        // Two registers are bytes, six are words of two.
        let bytes = match offset {
            0x14 | 0x15 => 1,
            0x10..=0x1f => 2,
            _ => 4,
        };
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        let value = value.to_le_bytes();
        let value = value.get(..bytes).unwrap_or_default();
        let written =
            answer(device.region_write(0, u64::from(offset) / bytes as u64 * bytes as u64, value));
        // The write is posted, and a command of the management function takes another way: what comes
        // next shall find it done.
        std::thread::sleep(POSTED);
        written
    }

    fn read_now(&mut self, number: usize, bytes: usize) -> Answer<usize> {
        let mut file = self.file(number)?;
        let flags = fcntl_getfl(file)?;
        fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
        let mut buffer = vec![0; bytes];
        let result = restarted(|| file.read(&mut buffer));
        fcntl_setfl(file, flags)?;
        let read = result?;
        self.keep(number, buffer.get(..read).unwrap_or_default());
        Ok(read)
    }

    fn poll(&mut self, file: usize, wait: bool) -> Answer<Polled> {
        let file = self.file(file)?;
        let limit = if wait { PATIENCE } else { Duration::ZERO };
        let seen = answer(ways::poll(file, limit))?;
        Ok(Polled {
            readable: seen.contains(PollFlags::IN),
            hung_up: seen.contains(PollFlags::RDHUP),
            broken: seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
            writable: seen.contains(PollFlags::OUT),
        })
    }

    fn elsewhere(&mut self, number: u8) -> Answer<u32> {
        let device = self.dut.device().map_err(|_| Errno::NODEV)?;
        wrong::elsewhere(device.fd(), number)
    }

    fn reopen(&mut self) -> anyhow::Result<()> {
        self.dut.reopen().map(drop)
    }

    fn read_all(&mut self, file: usize) -> Answer<Vec<u8>> {
        read_all(self.file(file)?)
    }

    fn write_all(&mut self, file: usize, stream: &[u8], piece: usize) -> Answer<()> {
        let file = self.file(file)?;
        answer(self.dut.write(file, stream, piece))
    }
}

/// Reads a stream to its end.
///
/// # Errors
///
/// The errno.
pub(super) fn read_all(mut file: &File) -> Answer<Vec<u8>> {
    let mut stream = Vec::new();
    answer(file.read_to_end(&mut stream))?;
    Ok(stream)
}
