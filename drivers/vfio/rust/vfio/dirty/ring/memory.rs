// SPDX-License-Identifier: GPL-2.0

//! A log ring in DMA memory, and the driver's consumption of it.

use super::{
    consumer::{
        Chunks,
        LogConsumer,
        CHUNK, //
    },
    format::Format,
    piece::{
        Flow,
        Piece,
        Writes, //
    },
};
use crate::ext::dma_pool::Slice;
use core::marker::PhantomData;
use kernel::{
    dma::Coherent,
    io::{
        io_project,
        Io,
        IoBase, //
    },
    prelude::*,
    sync::barrier::{
        dma_mb,
        Full, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_drains;

/// Number of parts of a ring. A drain returns consumed slots to the device after each part.
const BATCHES: u32 = 4;

/// End of a drain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// The drain ends at this number of posted entries. A missing entry before it is an error.
    Count(u32),
    /// The drain ends at the first entry that is not written yet, after one ring at most.
    Empty,
}

/// Result of a drain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drained {
    /// Number of entries consumed.
    pub(crate) entries: u32,
    /// The sink has stopped the drain.
    pub(crate) stopped: bool,
}

/// A log ring and its consumer count.
pub(crate) struct LogRing<F: Format> {
    pub(super) memory: Slice<[u64; CHUNK]>,
    pub(super) consumer: LogConsumer,
    /// An entry or a count was invalid. All later drains fail, because the device may have left out
    /// other entries.
    failed: bool,
    format: PhantomData<F>,
}

impl Chunks for Coherent<[[u64; CHUNK]]> {
    #[inline]
    fn chunk(&self, index: usize) -> Option<[u64; CHUNK]> {
        let copy = || -> Result<[u64; CHUNK]> { Ok(io_project!(self, [try: index]).copy_read()) };
        copy().ok()
    }

    #[inline(always)]
    fn read<T>(&self, index: usize, to: &mut [T], mut f: impl FnMut(u64) -> T) -> bool {
        // A view without the DMA address: with it, the address would be computed and checked for
        // each word.
        let memory = self.as_view().as_sys_mem();
        let mut read = || -> Result {
            for (index, places) in (index..).zip(to.chunks_exact_mut(CHUNK)) {
                for (offset, place) in places.iter_mut().enumerate() {
                    *place = f(io_project!(memory, [try: index][try: offset]).read_val());
                }
            }
            Ok(())
        };
        read().is_ok()
    }

    #[inline]
    fn word(&self, index: usize, offset: usize) -> Option<u64> {
        let read =
            || -> Result<u64> { Ok(io_project!(self, [try: index][try: offset]).read_val()) };
        read().ok()
    }
}

impl<F: Format> LogRing<F> {
    /// Creates an empty ring in zeroed memory of `1 << order` words.
    pub(crate) fn new(memory: Slice<[u64; CHUNK]>, order: u32) -> Self {
        Self {
            memory,
            consumer: LogConsumer::new(order),
            failed: false,
            format: PhantomData,
        }
    }

    /// Consumes entries up to `until`, or until `sink` stops the drain. `doorbell` returns slots to
    /// the device, given the consumer count.
    ///
    /// # Errors
    ///
    /// `EIO` for an undefined entry, a missing entry or an invalid count; all later drains fail,
    /// too. `ENOTCONN` after the binding has ended.
    pub(crate) fn drain(
        &mut self,
        until: Until,
        mut sink: impl FnMut(Piece<'_>) -> Flow,
        doorbell: impl Fn(u32),
    ) -> Result<Drained> {
        if self.failed {
            return Err(EIO);
        }
        let limit = match until {
            Until::Count(posted) => self
                .consumer
                .outstanding::<F>(posted)
                .ok_or_else(|| self.fail())?,
            Until::Empty => self.consumer.size(),
        };
        let mut drained = Drained {
            entries: 0,
            stopped: false,
        };
        // Return before the batch below is initialised: VMMs make thousands of reports a second
        // that find nothing posted.
        if limit == 0 {
            return Ok(drained);
        }
        let batch = self.consumer.size() / BATCHES;
        let mut writes = Writes::new();
        let mut given = 0;
        let end = loop {
            if drained.entries >= limit || drained.stopped {
                break Ok(());
            }
            if writes.make_room(&mut sink) == Flow::Stop {
                drained.stopped = true;
                break Ok(());
            }
            let posted = until != Until::Empty;
            let consumer = &mut self.consumer;
            // The memory is freed when the binding ends, which waits for this closure.
            let fetched = self.memory.with(|memory| {
                let before = drained.entries;
                // Decode a whole batch. If an entry in it is not a WRITE or not written yet, decode
                // chunk by chunk.
                let mut bite = u32::MAX;
                loop {
                    // Stop after a batch, to return its slots to the device.
                    let since = drained.entries.saturating_sub(given);
                    let left = limit.saturating_sub(drained.entries);
                    let most = batch.saturating_sub(since).max(CHUNK as u32).min(left);
                    if since >= batch || most < CHUNK as u32 || !writes.has_room() {
                        break;
                    }
                    let most = most.min(bite) as usize;
                    match writes.extend(most, |runs| consumer.fetch_writes::<F>(memory, runs)) {
                        0 if bite == CHUNK as u32 => break,
                        0 => bite = CHUNK as u32,
                        got => {
                            // CAST: `got` is at most the size of a batch.
                            consumer.advance(got as u32);
                            drained.entries = drained.entries.saturating_add(got as u32);
                        }
                    }
                }
                let most = limit.saturating_sub(drained.entries);
                (drained.entries == before).then(|| consumer.fetch::<F>(memory, most, posted))
            });
            let fetched = match fetched {
                Ok(fetched) => fetched,
                Err(error) => break Err(error),
            };
            if let Some(fetched) = fetched {
                if fetched.words().is_empty() {
                    break if posted { Err(self.fail()) } else { Ok(()) };
                }
                for &word in fetched.words() {
                    let Some(entry) = F::decode(word) else {
                        self.failed = true;
                        break;
                    };
                    self.consumer.advance(1);
                    drained.entries = drained.entries.saturating_add(1);
                    if writes.take(entry, &mut sink) == Flow::Stop {
                        drained.stopped = true;
                        break;
                    }
                }
                if self.failed {
                    break Err(EIO);
                }
            }
            if drained.entries.saturating_sub(given) >= batch {
                given = drained.entries;
                self.give_back(&doorbell);
            }
        };
        // Pass on the runs after an error, too, because their entries are consumed.
        if writes.flush(&mut sink) == Flow::Stop {
            drained.stopped = true;
        }
        end?;
        if drained.entries != given {
            self.give_back(&doorbell);
        }
        Ok(drained)
    }

    /// Returns all consumed slots to the device.
    fn give_back(&self, doorbell: &impl Fn(u32)) {
        // ORDERING: Full, for two reasons. The slots are read before the doorbell returns them to
        // the device. The pages are read after the entries that name them, by the VMM, which copies
        // them (rule 1).
        dma_mb(Full);
        doorbell(self.consumer.head());
    }

    /// Makes all later drains fail, and returns the error for this one.
    fn fail(&mut self) -> Error {
        self.failed = true;
        EIO
    }
}
