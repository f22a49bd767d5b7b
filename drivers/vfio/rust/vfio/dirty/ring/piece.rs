// SPDX-License-Identifier: GPL-2.0

//! Pieces: what a drain of a log ring passes to its sink.

use super::{
    consumer::CHUNK,
    format::Entry, //
};
use crate::vfio::dirty::run::Run;
use kernel::prelude::*;

/// Maximum number of runs that are passed on together. They take two kilobytes of the stack.
const BATCH: usize = 256;

static_assert!(BATCH % CHUNK == 0);

/// Part of the contents of a log ring. A drain passes the pieces in the order of the log.
pub(crate) enum Piece<'a> {
    /// The granules of consecutive WRITE entries: for each entry the number of its first page, and
    /// of its granules, which may be larger than a page.
    Writes(&'a [Run]),
    /// Marker of the SYNC with this cookie.
    Sync {
        /// Cookie of the command.
        cookie: u64,
    },
    /// The ring was full. The device logs no writes until a SYNC of everything.
    Lost,
}

/// Decision of a sink after a piece. The piece is consumed in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Continue the drain.
    Continue,
    /// End the drain.
    Stop,
}

/// Runs of consumed entries that were not passed to the sink yet.
pub(super) struct Writes {
    runs: [Run; BATCH],
    len: usize,
}

impl Writes {
    /// Creates an empty buffer.
    pub(super) fn new() -> Self {
        Self {
            runs: [Run::FIRST; BATCH],
            len: 0,
        }
    }

    /// Adds a WRITE entry, for which the caller has made room. Any other entry is passed to the
    /// sink, after all runs before it.
    pub(super) fn take(&mut self, entry: Entry, sink: &mut impl FnMut(Piece<'_>) -> Flow) -> Flow {
        let piece = match entry {
            Entry::Write(run) => {
                if let Some(place) = self.runs.get_mut(self.len) {
                    *place = run;
                    self.len = self.len.saturating_add(1);
                }
                return Flow::Continue;
            }
            Entry::Sync { cookie } => Piece::Sync { cookie },
            Entry::Lost => Piece::Lost,
        };
        match self.flush(sink) {
            Flow::Continue => sink(piece),
            Flow::Stop => Flow::Stop,
        }
    }

    /// Passes all runs to the sink if there is no room for another chunk.
    #[inline]
    pub(super) fn make_room(&mut self, sink: &mut impl FnMut(Piece<'_>) -> Flow) -> Flow {
        if self.len.saturating_add(CHUNK) > BATCH {
            return self.flush(sink);
        }
        Flow::Continue
    }

    /// Returns whether there is room for a chunk.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.len.saturating_add(CHUNK) <= BATCH
    }

    /// Passes the free room, for at most `most` runs, to `fill`, which returns how many it has
    /// filled. Returns that number.
    #[inline(always)]
    pub(super) fn extend(&mut self, most: usize, fill: impl FnOnce(&mut [Run]) -> usize) -> usize {
        let room = self.runs.get_mut(self.len..).unwrap_or_default();
        let most = most.min(room.len());
        let filled = room.get_mut(..most).map_or(0, fill).min(most);
        self.len = self.len.saturating_add(filled);
        filled
    }

    /// Passes all runs to the sink.
    #[inline]
    pub(super) fn flush(&mut self, sink: &mut impl FnMut(Piece<'_>) -> Flow) -> Flow {
        match self.runs.get(..core::mem::take(&mut self.len)) {
            Some(runs) if !runs.is_empty() => sink(Piece::Writes(runs)),
            _ => Flow::Continue,
        }
    }
}
