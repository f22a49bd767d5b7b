// SPDX-License-Identifier: GPL-2.0

//! Sessions for devices whose state is small enough to be read and written at once.
//!
//! The stream is a header and the bytes of the state. The header has a magic number, a version, the
//! length and the checksum of the state, so that write() refuses a damaged stream and one of
//! another device.

use super::{
    accounting::Pending,
    load::{
        LoadIo,
        LoadSink,
        LoadStart, //
    },
    pipeline::Delivered,
    save::{
        SaveSource,
        SaveStart, //
    },
};
use crate::ext::{
    crc32c::crc32c,
    gfp::USER, //
};
use core::marker::PhantomData;
use kernel::{
    iov::IovIterSource,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc,
    },
    ModuleMetadata, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_images;

/// Bytes of the header: magic, version, length and CRC-32C of the state, little-endian.
const HEADER: usize = 8 + 4 + 4 + 4;
/// Bytes that are copied from the user at a time.
const PIECE: usize = 256;

/// The format of a stream.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// A number that identifies the kind of device; choose it at random.
    pub(crate) magic: u64,
    /// The version of the layout of the state. Streams of other versions are refused.
    pub(crate) version: u32,
    /// The maximum size of a state in bytes.
    pub(crate) max_bytes: u32,
}

impl Format {
    /// Makes the header of a stream of `state`.
    fn header(&self, state: &[u8]) -> Result<[u8; HEADER]> {
        let length = u32::try_from(state.len())?;
        if length > self.max_bytes {
            return Err(EINVAL);
        }
        let mut header = [0; HEADER];
        let parts = [
            &self.magic.to_le_bytes()[..],
            &self.version.to_le_bytes(),
            &length.to_le_bytes(),
            &crc32c(state).to_le_bytes(),
        ];
        let mut rest = &mut header[..];
        for part in parts {
            let (to, next) = rest.split_at_mut_checked(part.len()).ok_or(EINVAL)?;
            to.copy_from_slice(part);
            rest = next;
        }
        Ok(header)
    }

    /// Returns the length of the whole stream that begins with `stream`, or `None` if `stream` is
    /// too short to tell.
    fn total(&self, stream: &[u8]) -> Result<Option<usize>> {
        let Some((magic, rest)) = stream.split_first_chunk() else {
            return Ok(None);
        };
        let Some((version, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let Some((length, _)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        if u64::from_le_bytes(*magic) != self.magic || length > self.max_bytes {
            return Err(EINVAL);
        }
        if u32::from_le_bytes(*version) != self.version {
            return Err(EOPNOTSUPP);
        }
        Ok(Some(HEADER.saturating_add(usize::try_from(length)?)))
    }
}

/// A save session that delivers a state read at its start.
pub(crate) struct Snapshot<M> {
    bytes: u64,
    taken: Atomic<bool>,
    _module: PhantomData<fn() -> M>,
}

impl<M: ModuleMetadata + 'static> Snapshot<M> {
    /// Makes a session that delivers `state`. `M` is the module of the driver. `stopped` is that of
    /// [`Engine::begin_save`](super::engine::Engine::begin_save).
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if the device is not stopped, because it may change its state after this:
    /// devices with such sessions have no pre-copy. `EINVAL` if `state` is larger than
    /// [`Format::max_bytes`], `ENOMEM`.
    pub(crate) fn start(format: &Format, state: &[u8], stopped: bool) -> Result<SaveStart<Self>> {
        if !stopped {
            return Err(EOPNOTSUPP);
        }
        let mut stream = KVVec::new();
        stream.extend_from_slice(&format.header(state)?, USER)?;
        stream.extend_from_slice(state, USER)?;
        let capacity = stream.len();
        let bytes = capacity as u64;
        let mut buffers = KVec::with_capacity(1, USER)?;
        buffers.push(Arc::new(stream, USER)?, USER)?;
        let source = Self {
            bytes,
            taken: Atomic::new(false),
            _module: PhantomData,
        };
        let pending = source.pending();
        Ok(SaveStart {
            source,
            buffers,
            capacity,
            pending,
        })
    }

    /// Returns the answer of [`Engine::pending`](super::engine::Engine::pending) for a state of
    /// `bytes` bytes, which no session has read. During a session, MIG_DATA_SIZE is what the user
    /// has not read of it.
    pub(crate) fn size(bytes: u32) -> Pending {
        let total = u64::from(bytes).saturating_add(HEADER as u64);
        Pending {
            initial_bytes: total,
            total_bytes: total,
            ..Pending::default()
        }
    }

    fn pending(&self) -> Pending {
        let left = if self.taken.load(kernel::sync::atomic::Relaxed) {
            0
        } else {
            self.bytes
        };
        Pending {
            initial_bytes: left,
            total_bytes: left,
            ..Pending::default()
        }
    }
}

impl<M: ModuleMetadata + 'static> SaveSource for Snapshot<M> {
    type OwnerModule = M;
    type Buffer = KVVec<u8>;
    type Prepared = ();
    type Read = Delivered;
    type Check = ();

    fn check(&self) {}

    fn prepare(&self, _buffer: &Arc<KVVec<u8>>, _fin: bool) -> Result {
        Ok(())
    }

    /// The first read delivers the whole stream, which is in the buffer.
    fn submit(&self, (): ()) -> Result<Arc<Delivered>> {
        let bytes = if self.taken.xchg(true, Full) {
            0
        } else {
            usize::try_from(self.bytes)?
        };
        Ok(Arc::new(Delivered { bytes, last: true }, GFP_ATOMIC)?)
    }

    fn is_done(_read: &Delivered) -> bool {
        true
    }

    fn wait(read: &Delivered) -> Result<Delivered> {
        Ok(*read)
    }

    fn wait_interruptible(read: &Delivered) -> Result<Delivered> {
        Ok(*read)
    }

    fn copy_out(&self, buffer: &KVVec<u8>, from: usize, to: &mut [u8]) -> Result {
        let end = from.checked_add(to.len()).ok_or(EINVAL)?;
        to.copy_from_slice(buffer.get(from..end).ok_or(EINVAL)?);
        Ok(())
    }

    fn try_pending(&self) -> Result<Option<Pending>> {
        Ok(Some(self.pending()))
    }

    fn end(&self) -> Result {
        Ok(())
    }
}

/// A load session that collects a state, which [`Engine::install`](super::engine::Engine::install)
/// writes to the device.
pub(crate) struct Image<M> {
    format: Format,
    _module: PhantomData<fn() -> M>,
}

/// The stream that an [`Image`] has accepted.
#[derive(Default)]
pub(crate) struct Accepted(KVVec<u8>);

impl Accepted {
    /// Returns the state without the header.
    fn bytes(&self) -> &[u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }
}

impl<M: ModuleMetadata + 'static> Image<M> {
    /// Makes a session that accepts a state of this format. `M` is the module of the driver.
    pub(crate) fn start(format: &Format) -> LoadStart<Self> {
        LoadStart {
            sink: Self {
                format: *format,
                _module: PhantomData,
            },
            parser: KVVec::new(),
            io: Accepted::default(),
        }
    }

    /// Runs `f`, which may sleep, on the accepted state, for
    /// [`Engine::install`](super::engine::Engine::install).
    ///
    /// # Errors
    ///
    /// `ENODEV`: the session has ended. Those of `f`, which can be called again with the state.
    pub(crate) fn activate(io: &LoadIo<Accepted>, f: impl FnOnce(&[u8]) -> Result) -> Result {
        let accepted = io.with(|io| Ok(core::mem::take(io)))?;
        f(accepted.bytes()).inspect_err(|_| {
            // If this fails, the session has ended and the state is not needed any more.
            let _ = io.with(|io| {
                *io = accepted;
                Ok(())
            });
        })
    }

    /// Returns whether `stream` is complete.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the stream is damaged or of another device. `EOPNOTSUPP`: the stream has another
    /// version.
    fn check(&self, stream: &[u8]) -> Result<bool> {
        let Some(total) = self.format.total(stream)? else {
            return Ok(false);
        };
        if stream.len() > total {
            return Err(EINVAL);
        }
        if stream.len() < total {
            return Ok(false);
        }
        let (header, state) = stream.split_at_checked(HEADER).ok_or(EINVAL)?;
        if header != self.format.header(state)? {
            return Err(EINVAL);
        }
        Ok(true)
    }
}

impl<M: ModuleMetadata + 'static> LoadSink for Image<M> {
    type OwnerModule = M;
    type Parser = KVVec<u8>;
    type Io = Accepted;

    /// The data takes at most the length in the header and one piece. Its vector grows by doubling,
    /// and the accepted stream is copied once.
    fn write(
        &self,
        parser: &mut KVVec<u8>,
        src: &mut IovIterSource<'_>,
        io: &LoadIo<Accepted>,
    ) -> Result<bool> {
        let mut complete = false;
        while !src.is_empty() {
            io.check()?;
            // There are bytes after the end of the stream.
            if complete || self.check(parser)? {
                return Err(EINVAL);
            }
            let mut piece = [0; PIECE];
            let n = src.len().min(PIECE);
            let piece = piece.get_mut(..n).ok_or(EINVAL)?;
            if src.copy_from_iter(piece) != n {
                return Err(EFAULT);
            }
            parser.extend_from_slice(piece, USER)?;
            complete = self.check(parser)?;
            io.count(parser.len() as u64);
        }
        if complete {
            let mut copy = KVVec::new();
            copy.extend_from_slice(parser, USER)?;
            io.with(|io| {
                io.0 = copy;
                Ok(())
            })?;
        }
        Ok(complete)
    }

    fn forget(parser: &mut KVVec<u8>) {
        *parser = KVVec::new();
    }
}
