// SPDX-License-Identifier: GPL-2.0

//! The layer's sink of a load session: it passes the state to a function by LOAD_WRITE and
//! LOAD_COMMIT.
//!
//! Every error is reported by write(). Each complete section is checked and passed to the device.
//! The write() of the last byte returns after the device has verified and installed the whole
//! stream.

use super::stream::{
    Accepts,
    Complete,
    Parser,
    Room, //
};
use crate::{
    ext::{
        budget::Budget,
        cmdq::buffer::Buffer,
        crc32c::Crc32c,
        gfp::USER, //
    },
    mgmt::{
        Function,
        Prepared,
        Ticket, //
    },
    vfio::migration::load::{
        LoadIo,
        LoadSink,
        LoadStart, //
    },
};
use kernel::{
    iov::IovIterSource,
    prelude::*,
    sync::Arc,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// Pause before the next attempt to submit a LOAD_ABORT if there was no room for it.
const NO_ROOM: Delta = Delta::from_millis(5);
/// Size in bytes of a buffer. It holds several small sections, or any single one.
const BUFFER: usize = 256 << 10;
/// Number of buffers: one is filled while the device reads the other.
const BUFFERS: usize = 2;
/// Number of bytes that are copied at a time if the user's memory must be brought in first.
const PIECE: usize = 256;

/// Buffers with data for the device.
pub(crate) struct Lanes {
    lanes: KVec<Lane>,
    /// Index of the lane that is being filled.
    at: usize,
}

/// A buffer, and the command that passes it to the device.
struct Lane {
    buffer: Arc<Buffer>,
    /// Number of bytes of complete sections. A section that is not complete stands behind them.
    filled: usize,
    load: Option<Arc<Ticket>>,
}

impl Lanes {
    /// Returns the lane that is being filled.
    fn lane(&mut self) -> Result<&mut Lane> {
        self.lanes.get_mut(self.at).ok_or(EIO)
    }
}

type Io = LoadIo<Lanes>;

/// The data of a write(), and the lane for it.
struct Incoming<'a, 'b> {
    sink: &'a Sink,
    io: &'a Io,
    src: &'a mut IovIterSource<'b>,
}

impl Incoming<'_, '_> {
    /// Returns the buffer of the lane, and where in it the current section begins.
    fn place(&self) -> Result<(Arc<Buffer>, usize)> {
        self.io.with(|io| {
            let lane = io.lane()?;
            Ok((lane.buffer.clone(), lane.filled))
        })
    }
}

impl Room for Incoming<'_, '_> {
    fn read(&mut self, to: &mut [u8]) -> Result {
        if self.src.copy_from_iter(to) == to.len() {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// Waits until the device has read the buffer of the section.
    fn begin(&mut self, bytes: usize) -> Result {
        let (_, filled) = self.place()?;
        if filled.saturating_add(bytes) > BUFFER {
            self.sink.flush(self.io)?;
        }
        let load = self.io.with(|io| Ok(io.lane()?.load.take()))?;
        load.map_or(Ok(()), |load| load.wait().map(drop))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> Result {
        let (buffer, begin) = self.place()?;
        buffer.copy_in(begin.saturating_add(at), bytes)
    }

    /// Copies into the memory from which the device reads. An unbind waits for the lock of that
    /// memory, so no page fault may happen with the lock held. If a page is not in memory, a copy
    /// of some bytes without the lock brings it in.
    fn fill(&mut self, at: usize, len: usize, crc: &mut Crc32c) -> Result<usize> {
        let (buffer, begin) = self.place()?;
        let at = begin.saturating_add(at);
        let filled = buffer.fill(at, len, self.src, crc)?;
        if filled != 0 {
            return Ok(filled);
        }
        let mut piece = [0; PIECE];
        let piece = piece.get_mut(..len.min(PIECE)).ok_or(EINVAL)?;
        self.read(piece)?;
        buffer.copy_in(at, piece)?;
        crc.update(piece);
        Ok(piece.len())
    }
}

/// The sink of a load session.
pub(crate) struct Sink {
    function: Function,
}

impl Sink {
    /// Allocates the memory and begins the session on the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOTCONN`, and the errors of [`Function::load_begin`], after which the device may
    /// have a session.
    pub(super) fn begin(function: &Function) -> Result<LoadStart<Self>> {
        let info = function.info();
        let parser = Parser::new(Accepts {
            compat: info.compat,
            version_min: info.state_version_min,
            version_max: info.state_version,
            max_bytes: info.max_state_bytes,
        });
        let mut lanes = KVec::with_capacity(BUFFERS, USER)?;
        for _ in 0..BUFFERS {
            let buffer = function.alloc_buffer(BUFFER)?;
            lanes.push(
                Lane {
                    buffer,
                    filled: 0,
                    load: None,
                },
                USER,
            )?;
        }
        function.load_begin()?;
        Ok(LoadStart {
            sink: Self {
                function: function.clone(),
            },
            parser,
            io: Lanes { lanes, at: 0 },
        })
    }

    /// Adds the section that the parser has completed to the data for the device.
    fn pass_on(&self, parser: &Parser, io: &Io) -> Result {
        io.with(|io| {
            let lane = io.lane()?;
            lane.filled = lane.filled.saturating_add(parser.section_bytes());
            Ok(())
        })?;
        io.count(parser.bytes());
        Ok(())
    }

    /// Submits the data of the current lane, and continues with the other lane.
    fn flush(&self, io: &Io) -> Result {
        let (buffer, filled) = io.with(|io| {
            let lane = io.lane()?;
            Ok((lane.buffer.clone(), lane.filled))
        })?;
        if filled == 0 {
            return Ok(());
        }
        let load = self.give(io, || self.function.prepare_load(&buffer, filled))?;
        io.with(|io| {
            let lane = io.lane()?;
            lane.load = Some(load);
            lane.filled = 0;
            io.at = io.at.wrapping_add(1) % BUFFERS;
            Ok(())
        })
    }

    /// Submits a command as soon as there is room, while the session is alive.
    fn give(&self, io: &Io, prepare: impl Fn() -> Result<Prepared>) -> Result<Arc<Ticket>> {
        loop {
            let prepared = prepare()?;
            let class = prepared.class();
            match io.with(|_| prepared.submit()) {
                Err(error) if error == EBUSY => self.function.wait_for_room(class)?,
                given => return given,
            }
        }
    }

    /// Commits the stream: the device verifies and installs it.
    fn commit(&self, io: &Io) -> Result {
        // Wait in the order of submission.
        for i in 0..BUFFERS {
            let load = io.with(|io| {
                let at = io.at.wrapping_add(i) % BUFFERS;
                Ok(io.lanes.get_mut(at).and_then(|lane| lane.load.take()))
            })?;
            if let Some(load) = load {
                load.wait()?;
            }
        }
        self.give(io, || self.function.prepare_commit())?.wait()?;
        Ok(())
    }
}

impl LoadSink for Sink {
    type OwnerModule = crate::LocalModule;
    type Parser = Parser;
    type Io = Lanes;

    /// Takes `src` section by section. Sections that do not fill a buffer wait for the next write:
    /// VMMs write in small pieces, and a command for each would be slow. The trailer flushes all
    /// buffers.
    fn write(&self, parser: &mut Parser, src: &mut IovIterSource<'_>, io: &Io) -> Result<bool> {
        let mut accepted = false;
        while !src.is_empty() {
            io.check()?;
            let available = src.len();
            let mut incoming = Incoming {
                sink: self,
                io,
                src,
            };
            let (_, complete) = parser.take(available, &mut incoming)?;
            match complete {
                None => (),
                Some(Complete::Section) => self.pass_on(parser, io)?,
                Some(Complete::Trailer) => {
                    self.pass_on(parser, io)?;
                    self.flush(io)?;
                    self.commit(io)?;
                    accepted = true;
                }
            }
        }
        Ok(accepted)
    }

    /// Makes the device forget a session that failed, unless the session has ended meanwhile: the
    /// device may then have the next one.
    fn abort(&self, io: &Io) {
        let budget = Budget::new();
        let abort = || -> Result {
            let prepared = self.function.prepare_abort(&budget)?;
            let ticket = io.with(|_| {
                // A reset of the function has ended the session on the device.
                if io.is_over() {
                    return Err(ENODEV);
                }
                prepared.submit()
            })?;
            ticket.wait_within(&budget).map(drop)
        };
        while matches!(abort(), Err(error) if error == EBUSY) && !budget.is_over() {
            fsleep(NO_ROOM);
        }
        // If this fails, the device keeps the session until the reset, which is the only way out of
        // RESUMING now.
    }

    fn forget(parser: &mut Parser) {
        parser.fail();
    }

    fn end(&self) -> Result {
        self.function.load_abort()
    }
}
