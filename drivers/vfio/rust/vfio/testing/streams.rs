// SPDX-License-Identifier: GPL-2.0

//! The save and load sessions of the fake device.

use super::board::{
    Board,
    Op,
    Session,
    BAD,
    CAPACITY,
    TRAILER, //
};
use crate::vfio::migration::{
    accounting::Pending,
    load::{
        LoadIo,
        LoadSink, //
    },
    pipeline::Delivered,
    save::{
        SaveSource,
        Sleepers,
        StreamCheck, //
    },
};
use kernel::{
    iov::IovIterSource,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// The memory of a read.
#[pin_data]
pub(super) struct FakeBuffer {
    #[pin]
    bytes: Mutex<[u8; CAPACITY]>,
}

impl FakeBuffer {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                bytes <- new_mutex!([0; CAPACITY], "vfio_kunit_buffer"),
            }),
            GFP_KERNEL,
        )
    }
}

/// A read that was submitted, and its answer.
#[pin_data]
pub(super) struct FakeRead {
    board: Arc<Board>,
    buffer: Arc<FakeBuffer>,
    fin: bool,
    #[pin]
    answer: Mutex<Option<Result<Delivered>>>,
}

impl FakeRead {
    fn finish(&self) -> Result<Delivered> {
        if let Some(answer) = *self.answer.lock() {
            return answer;
        }
        let mut bytes = self.buffer.bytes.lock();
        let fin = self.fin;
        let answer = self.board.call(Op::Read, |d| d.deliver(&mut bytes, fin));
        *self.answer.lock() = Some(answer);
        answer
    }
}

/// The save session of the fake device.
pub(super) struct FakeSource(pub(super) Arc<Board>);

/// Whether the last byte was [`TRAILER`].
#[derive(Default)]
pub(super) struct LastByte(bool);

impl StreamCheck for LastByte {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.0 = *last == TRAILER;
        }
    }

    fn is_whole(&self) -> bool {
        self.0
    }
}

impl SaveSource for FakeSource {
    type OwnerModule = crate::LocalModule;
    type Buffer = FakeBuffer;
    type Prepared = (Arc<FakeBuffer>, bool);
    type Read = FakeRead;
    type Check = LastByte;

    fn check(&self) -> LastByte {
        LastByte::default()
    }

    fn prepare(&self, buffer: &Arc<FakeBuffer>, fin: bool) -> Result<Self::Prepared> {
        self.0.about_to_call();
        self.0.with(|d| match d.contended.checked_sub(1) {
            Some(left) => {
                d.contended = left;
                Err(EBUSY)
            }
            None => Ok((buffer.clone(), fin)),
        })
    }

    fn submit(&self, (buffer, fin): Self::Prepared) -> Result<Arc<FakeRead>> {
        let stalls = self.0.with(|d| -> Result<_> {
            d.room = d.room.checked_sub(1).ok_or(EBUSY)?;
            Ok(d.stalls)
        })?;
        let read = Arc::pin_init(
            pin_init!(FakeRead {
                board: self.0.clone(),
                buffer,
                fin,
                answer <- new_mutex!(None, "vfio_kunit_answer"),
            }),
            GFP_KERNEL,
        )?;
        if !stalls {
            let _ = read.finish();
        }
        Ok(read)
    }

    fn is_done(read: &FakeRead) -> bool {
        read.answer.lock().is_some()
    }

    fn wait(read: &FakeRead) -> Result<Delivered> {
        read.finish()
    }

    fn wait_interruptible(read: &FakeRead) -> Result<Delivered> {
        read.finish()
    }

    fn wait_for_room(&self) -> Result {
        self.0.with(|d| match d.room {
            0 => {
                d.room = 1;
                Ok(())
            }
            // There was room, so nothing would end the wait.
            _ => Err(EIO),
        })
    }

    fn copy_out(&self, buffer: &FakeBuffer, from: usize, to: &mut [u8]) -> Result {
        let bytes = buffer.bytes.lock();
        to.copy_from_slice(bytes.get(from..from + to.len()).ok_or(EINVAL)?);
        Ok(())
    }

    fn try_pending(&self) -> Result<Option<Pending>> {
        Ok(Some(self.0.with(|d| d.pending())))
    }

    fn set_sleepers(&self, sleepers: Option<Arc<Sleepers>>) {
        self.0.with(|d| d.sleepers = sleepers);
    }

    fn end(&self) -> Result {
        self.0.call(Op::EndSave, |d| {
            d.session = Session::None;
            Ok(())
        })
    }
}

/// The load session of the fake device.
pub(super) struct FakeSink(Arc<Board>);

impl FakeSink {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self(board)
    }
}

impl LoadSink for FakeSink {
    type OwnerModule = crate::LocalModule;
    type Parser = KVVec<u8>;
    type Io = ();

    fn write(
        &self,
        parser: &mut KVVec<u8>,
        src: &mut IovIterSource<'_>,
        io: &LoadIo<()>,
    ) -> Result<bool> {
        let mut accepted = false;
        while !src.is_empty() {
            io.check()?;
            let mut byte = [0];
            if src.copy_from_iter(&mut byte) != 1 {
                return Err(EFAULT);
            }
            if parser.last() == Some(&TRAILER) || byte[0] == BAD {
                return Err(EINVAL);
            }
            parser.push(byte[0], GFP_KERNEL)?;
            io.count(parser.len() as u64);
            self.0.about_to_call();
            let sent = io.with(|()| {
                self.0.call(Op::Write, |d| {
                    if d.session != Session::Load {
                        return Err(EPROTO);
                    }
                    if byte[0] != TRAILER {
                        d.inbox.push(byte[0], GFP_KERNEL)?;
                    }
                    Ok(())
                })
            });
            sent?;
            accepted = byte[0] == TRAILER;
        }
        Ok(accepted)
    }

    fn abort(&self, io: &LoadIo<()>) {
        let _ = io.with(|()| {
            if !io.is_over() {
                self.0.with(|d| d.session = Session::None);
            }
            Ok(())
        });
    }

    fn forget(parser: &mut KVVec<u8>) {
        *parser = KVVec::new();
    }

    fn end(&self) -> Result {
        self.0.call(Op::EndSessions, |d| {
            d.session = Session::None;
            Ok(())
        })
    }
}
