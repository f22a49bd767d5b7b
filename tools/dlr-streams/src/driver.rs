// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A stream through the driver's files, in pieces.

use anyhow::{ensure, Result};

use crate::{
    ext::crc32c::Crc32c,
    sections::HEADER,
    stub::{self, EIO, ENODEV},
    vf::{
        framing::Framing,
        stream::{Accepts, Parser, Room},
    },
    vfio::migration::save::StreamCheck,
};

/// The compatibility id of all functions here.
pub(crate) const COMPAT: [u8; 16] = *b"dlr-streams/all\0";

/// What the functions of the NIC take.
pub(crate) const ACCEPTS: Accepts = Accepts {
    compat: COMPAT,
    version_min: dlr_mgmt::STATE_VERSION_MIN,
    version_max: dlr_mgmt::STATE_VERSION,
    max_bytes: dlr_mgmt::MAX_STATE_BYTES,
};

/// A room that compares what the parser keeps with the stream. Its errors are those of no stream.
struct Same<'a> {
    stream: &'a [u8],
    /// Number of bytes that were copied.
    copied: usize,
    /// Start of the current section, and number of its bytes that were kept.
    start: usize,
    kept: usize,
    declared: usize,
    /// Most bytes that one copy brings.
    most: usize,
}

impl Same<'_> {
    fn next(&mut self, n: usize) -> stub::Result<&[u8]> {
        let bytes = self.stream.get(self.copied..self.copied + n).ok_or(EIO)?;
        self.copied += n;
        Ok(bytes)
    }
}

impl Room for Same<'_> {
    fn read(&mut self, to: &mut [u8]) -> stub::Result {
        to.copy_from_slice(self.next(to.len())?);
        Ok(())
    }

    fn begin(&mut self, bytes: usize) -> stub::Result {
        self.start = self.copied.checked_sub(HEADER).ok_or(EIO)?;
        (self.kept, self.declared) = (0, bytes);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> stub::Result {
        let (start, end) = (self.start + at, self.start + at + bytes.len());
        let is_same = self.stream.get(start..end) == Some(bytes);
        if !is_same || at != self.kept || at + bytes.len() > self.declared {
            return Err(EIO);
        }
        self.kept += bytes.len();
        Ok(())
    }

    fn fill(&mut self, at: usize, len: usize, crc: &mut Crc32c) -> stub::Result<usize> {
        let n = len.min(self.most);
        crc.update(self.next(n)?);
        if at != self.kept || at + n > self.declared {
            return Err(EIO);
        }
        self.kept += n;
        Ok(n)
    }
}

/// What the parser makes of a stream in pieces of at most `piece` bytes, of which one copy brings
/// at most `most`: the number of bytes of its complete sections, and whether it is complete.
pub(crate) fn parsed(
    stream: &[u8],
    piece: usize,
    most: usize,
    accepts: &Accepts,
) -> Result<(u64, stub::Result<bool>)> {
    let mut parser = Parser::new(*accepts);
    let mut room = Same {
        stream,
        copied: 0,
        start: 0,
        kept: 0,
        declared: 0,
        most,
    };
    let mut taken = 0;
    while taken < stream.len() {
        match parser.take(piece.min(stream.len() - taken), &mut room) {
            Ok((n, complete)) => {
                taken += n;
                ensure!(n > 0 && taken == room.copied, "bytes taken and not copied");
                if complete.is_some() {
                    let bytes = parser.section_bytes();
                    let is_kept = bytes == room.kept && bytes == room.declared;
                    ensure!(is_kept, "a section that is not in the room");
                    ensure!(parser.bytes() == taken as u64, "the bytes are miscounted");
                }
            }
            Err(e) => {
                let again = parser.take(1, &mut room);
                let is_final = again == Err(ENODEV) && !parser.is_complete();
                ensure!(is_final, "an error is not final: {e:?}, {again:?}");
                return Ok((parser.bytes(), Err(e)));
            }
        }
    }
    Ok((parser.bytes(), Ok(parser.is_complete())))
}

/// Whether the driver would have let a user read this stream, in pieces of `piece` bytes, as a
/// whole one.
pub(crate) fn is_whole(stream: &[u8], piece: usize, max_bytes: u64) -> bool {
    let mut framing = Framing::new(max_bytes);
    stream.chunks(piece).for_each(|bytes| framing.push(bytes));
    framing.is_whole()
}
