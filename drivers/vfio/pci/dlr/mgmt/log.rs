// SPDX-License-Identifier: GPL-2.0

//! The log ring of one data function, the driver's end of it.

use super::{
    hardware::Guard,
    ring::{
        Chunks,
        LogConsumer,
        CHUNK, //
    }, //
};
use crate::proto::{
    log::Entry,
    regs, //
};
use kernel::{
    dma::Coherent,
    io::{
        io_project,
        Io, //
    },
    prelude::*,
    sync::barrier::{
        dma_mb,
        Full, //
    },
};

/// Parts of the ring after which consumed slots go back to the device.
const BATCHES: u32 = 4;

/// Where a drain ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// At this value of POSTED; all entries up to it must be there.
    Count(u32),
    /// Where nothing more has been written yet, at most one ring further.
    Empty,
}

/// What to do after an entry. It is consumed in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Go on.
    Continue,
    /// End the drain.
    Stop,
}

/// What a drain did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drained {
    /// Entries consumed.
    pub(crate) entries: u32,
    /// The sink asked to stop.
    pub(crate) stopped: bool,
}

/// A ring and how far it has been consumed.
pub(super) struct Ring {
    memory: Coherent<[[u64; CHUNK]]>,
    consumer: LogConsumer,
    /// Something in it made no sense; nothing from it counts any more (rule 10).
    failed: bool,
}

impl Chunks for Coherent<[[u64; CHUNK]]> {
    #[inline]
    fn chunk(&self, index: usize) -> Option<[u64; CHUNK]> {
        let copy = || -> Result<[u64; CHUNK]> { Ok(io_project!(self, [try: index]).copy_read()) };
        copy().ok()
    }

    #[inline]
    fn word(&self, index: usize, offset: usize) -> Option<u64> {
        let read =
            || -> Result<u64> { Ok(io_project!(self, [try: index][try: offset]).read_val()) };
        read().ok()
    }
}

/// The log of a data function. The ring stays until the device is known not to write it any more.
pub(super) struct Log {
    pub(super) ring: Option<Ring>,
    /// Whether the device has accepted it.
    pub(super) active: bool,
}

impl Log {
    /// No ring.
    pub(super) fn new() -> Self {
        Self {
            ring: None,
            active: false,
        }
    }

    /// The ring of an active log.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the log is not active.
    pub(super) fn active(&mut self) -> Result<&mut Ring> {
        match &mut self.ring {
            Some(ring) if self.active => Ok(ring),
            _ => Err(EINVAL),
        }
    }
}

impl Ring {
    /// An empty ring in zeroed memory of `1 << order` words.
    pub(super) fn new(memory: Coherent<[[u64; CHUNK]]>, order: u32) -> Self {
        Self {
            memory,
            consumer: LogConsumer::new(order),
            failed: false,
        }
    }

    /// Consumes entries up to `until`. `doorbell` gives slots back to the device.
    ///
    /// # Errors
    ///
    /// `EIO` for an entry that the contract does not define, one that is missing, or a count that cannot
    /// be. From then on always.
    pub(super) fn drain(
        &mut self,
        until: Until,
        mut sink: impl FnMut(Entry) -> Flow,
        doorbell: impl Fn(u32),
    ) -> Result<Drained> {
        if self.failed {
            return Err(EIO);
        }
        let limit = match until {
            Until::Count(posted) => self
                .consumer
                .outstanding(posted)
                .ok_or_else(|| self.fail())?,
            Until::Empty => self.consumer.size(),
        };
        let batch = self.consumer.size() / BATCHES;
        let mut drained = Drained {
            entries: 0,
            stopped: false,
        };
        let mut given = 0;
        while drained.entries < limit && !drained.stopped {
            let most = limit.saturating_sub(drained.entries);
            let fetched = self
                .consumer
                .fetch(&self.memory, most, until != Until::Empty);
            if fetched.words().is_empty() {
                if until == Until::Empty {
                    break;
                }
                return Err(self.fail());
            }
            for &word in fetched.words() {
                let Some(entry) = Entry::decode(word) else {
                    return Err(self.fail());
                };
                self.consumer.advance();
                drained.entries = drained.entries.saturating_add(1);
                if sink(entry) == Flow::Stop {
                    drained.stopped = true;
                    break;
                }
            }
            if drained.entries.saturating_sub(given) >= batch {
                given = drained.entries;
                self.give_back(&doorbell);
            }
        }
        if drained.entries != given {
            self.give_back(&doorbell);
        }
        Ok(drained)
    }

    fn give_back(&self, doorbell: &impl Fn(u32)) {
        // ORDERING: Full, for two things: the slots are read before the doorbell gives them back; and what
        // an entry names is read after the entry, by whoever copies the page (rule 1).
        dma_mb(Full);
        doorbell(self.consumer.head());
    }

    fn fail(&mut self) -> Error {
        self.failed = true;
        EIO
    }
}

/// Reads POSTED: one access to the device, and no lock that sleeps.
///
/// # Errors
///
/// `EIO` when the log is not active, failed, or the device is gone.
pub(super) fn posted(hw: &Guard<'_>, function: u16) -> Result<u32> {
    let value = hw.bar().try_read32(regs::log_posted(function.into()))?;
    regs::posted(value)
}

/// Tells the device how far a function's log has been consumed.
pub(super) fn give_back(hw: &Guard<'_>, function: u16, head: u32) {
    // The offset is in the BAR for every function number that the device has.
    let _ = hw.bar().try_write32(head, regs::log_head(function.into()));
}

#[kunit_tests(dlr_mgmt_log)]
mod tests {
    use super::*;
    use crate::kext::testing::DmaDevice;
    use core::cell::Cell;

    /// What the device does.
    struct Poster<'a> {
        ring: &'a Ring,
        count: u32,
    }

    fn set(ring: &Ring, place: usize, word: u64) {
        let memory = &ring.memory;
        let write = || -> Result {
            io_project!(memory, [try: place / CHUNK][try: place % CHUNK]).write_val(word);
            Ok(())
        };
        write().unwrap_or(());
    }

    impl Poster<'_> {
        fn post(&mut self, entry: Entry) {
            let size = self.ring.consumer.size();
            let word = entry.encode(self.count / size % 2 == 0);
            let place = (self.count % size) as usize;
            set(self.ring, place, word);
            self.count += 1;
        }
    }

    fn write(n: u64) -> Entry {
        Entry::Write {
            iova: n << 12,
            granules: 1,
        }
    }

    fn ring(dev: &DmaDevice, order: u32) -> Result<Ring> {
        let chunks = (1 << order) / CHUNK;
        let memory = Coherent::zeroed_slice(dev.bound(), chunks, GFP_KERNEL)?;
        Ok(Ring::new(memory, order))
    }

    #[test]
    fn drains_to_the_count_and_rings() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-drain")?;
        let mut ring = ring(&dev, 4)?;
        let bell = Cell::new(0);
        for pass in 0..5u32 {
            let mut poster = Poster {
                ring: &ring,
                count: pass * 11,
            };
            for n in 0..11u64 {
                poster.post(write(n));
            }
            let mut seen = 0;
            let done = ring.drain(
                Until::Count(pass * 11 + 10),
                |entry| {
                    assert_eq!(entry, write(seen));
                    seen += 1;
                    Flow::Continue
                },
                |head| bell.set(head),
            )?;
            assert_eq!((done.entries, seen), (10, 10));
            assert_eq!(bell.get(), pass * 11 + 10);
            let rest = ring.drain(Until::Empty, |_| Flow::Continue, |head| bell.set(head))?;
            assert_eq!(rest.entries, 1);
            assert_eq!(bell.get(), pass * 11 + 11);
        }
        Ok(())
    }

    #[test]
    fn stops_behind_the_marker() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-marker")?;
        let mut ring = ring(&dev, 4)?;
        let mut poster = Poster {
            ring: &ring,
            count: 0,
        };
        poster.post(write(1));
        poster.post(Entry::Sync { cookie: 7 });
        poster.post(write(2));
        let done = ring.drain(
            Until::Empty,
            |entry| match entry {
                Entry::Sync { .. } => Flow::Stop,
                _ => Flow::Continue,
            },
            |_| (),
        )?;
        assert_eq!((done.entries, done.stopped), (2, true));
        let mut last = None;
        ring.drain(
            Until::Count(3),
            |entry| {
                last = Some(entry);
                Flow::Continue
            },
            |_| (),
        )?;
        assert_eq!(last, Some(write(2)));
        Ok(())
    }

    #[test]
    fn full_ring() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-full")?;
        let mut ring = ring(&dev, 6)?;
        let mut poster = Poster {
            ring: &ring,
            count: 0,
        };
        for n in 0..63 {
            poster.post(write(n));
        }
        poster.post(Entry::Lost);
        let bells = Cell::new(0);
        let mut lost = 0;
        let done = ring.drain(
            Until::Count(64),
            |entry| {
                lost += u32::from(entry == Entry::Lost);
                Flow::Continue
            },
            |_| bells.set(bells.get() + 1),
        )?;
        assert_eq!((done.entries, lost), (64, 1));
        assert_eq!(bells.get(), BATCHES);
        // The old pass is not taken for new.
        let rest = ring.drain(Until::Empty, |_| Flow::Continue, |_| ())?;
        assert_eq!(rest.entries, 0);
        Ok(())
    }

    #[test]
    fn errors_stay() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-errors")?;
        // A missing entry, more than fit, garbage.
        for case in 0..3 {
            let mut ring = ring(&dev, 4)?;
            if case == 2 {
                set(&ring, 0, 0xf);
            }
            let count = if case == 1 { 17 } else { 1 };
            let got = ring.drain(Until::Count(count), |_| Flow::Continue, |_| ());
            assert_eq!(got, Err(EIO));
            let got = ring.drain(Until::Empty, |_| Flow::Continue, |_| ());
            assert_eq!(got, Err(EIO));
        }
        Ok(())
    }
}
