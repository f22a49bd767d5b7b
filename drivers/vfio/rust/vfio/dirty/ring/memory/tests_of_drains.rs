// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of drains, on a ring in DMA memory.

use kernel::prelude::*;

#[kunit_tests(vfio_ring_drain)]
mod tests {
    use super::super::super::format::{
        Entry,
        Plain, //
    };
    use super::super::*;
    use crate::{
        ext::testing::DmaDevice,
        vfio::dirty::run::Run, //
    };
    use core::cell::Cell;

    type Ring = LogRing<Plain>;

    /// Writes entries as the device does.
    struct Poster<'a> {
        ring: &'a Ring,
        count: u32,
    }

    fn set(ring: &Ring, place: usize, word: u64) {
        let write = |memory: &Coherent<[[u64; CHUNK]]>| -> Result {
            io_project!(memory, [try: place / CHUNK][try: place % CHUNK]).write_val(word);
            Ok(())
        };
        let _ = ring.memory.with(write);
    }

    impl Poster<'_> {
        fn post(&mut self, entry: Entry) {
            let size = self.ring.consumer.size();
            let word = Plain::encode(entry, self.count / size % 2 == 0);
            let place = (self.count % size) as usize;
            set(self.ring, place, word);
            self.count += 1;
        }
    }

    fn write(n: u64) -> Entry {
        Entry::Write(Run::one(n))
    }

    /// Makes a sink that passes the entries of each piece to `f`.
    fn entries(mut f: impl FnMut(Entry) -> Flow) -> impl FnMut(Piece<'_>) -> Flow {
        move |piece| match piece {
            Piece::Writes(runs) => {
                for run in runs {
                    if f(Entry::Write(*run)) == Flow::Stop {
                        return Flow::Stop;
                    }
                }
                Flow::Continue
            }
            Piece::Sync { cookie } => f(Entry::Sync { cookie }),
            Piece::Lost => f(Entry::Lost),
        }
    }

    fn ring(dev: &DmaDevice, order: u32) -> Result<Ring> {
        let chunks = (1 << order) / CHUNK;
        Ok(Ring::new(dev.alloc(chunks)?, order))
    }

    #[test]
    fn drains_to_the_count_and_rings() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-drain")?;
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
                entries(|entry| {
                    assert_eq!(entry, write(seen));
                    seen += 1;
                    Flow::Continue
                }),
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
        let dev = DmaDevice::new(c"vfio-kunit-marker")?;
        let mut ring = ring(&dev, 4)?;
        let mut poster = Poster {
            ring: &ring,
            count: 0,
        };
        poster.post(write(1));
        poster.post(Entry::Sync { cookie: 7 });
        poster.post(write(2));
        let mut before = None;
        let done = ring.drain(
            Until::Empty,
            entries(|entry| match entry {
                Entry::Sync { .. } => Flow::Stop,
                other => {
                    before = Some(other);
                    Flow::Continue
                }
            }),
            |_| (),
        )?;
        assert_eq!((done.entries, done.stopped), (2, true));
        assert_eq!(before, Some(write(1)));
        let mut last = None;
        ring.drain(
            Until::Count(3),
            entries(|entry| {
                last = Some(entry);
                Flow::Continue
            }),
            |_| (),
        )?;
        assert_eq!(last, Some(write(2)));
        Ok(())
    }

    #[test]
    fn full_ring() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-full")?;
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
            entries(|entry| {
                lost += u32::from(entry == Entry::Lost);
                Flow::Continue
            }),
            |_| bells.set(bells.get() + 1),
        )?;
        assert_eq!((done.entries, lost), (64, 1));
        assert_eq!(bells.get(), BATCHES);
        // The entries of the old pass are not taken for new ones.
        let rest = ring.drain(Until::Empty, |_| Flow::Continue, |_| ())?;
        assert_eq!(rest.entries, 0);
        Ok(())
    }

    #[test]
    fn more_writes_than_a_batch_has() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-batch")?;
        for until in [Until::Count(509), Until::Empty] {
            let mut ring = ring(&dev, 9)?;
            let mut poster = Poster {
                ring: &ring,
                count: 0,
            };
            for n in 0..509 {
                poster.post(write(n));
            }
            let mut seen = 0;
            let sink = entries(|entry| {
                assert_eq!(entry, write(seen));
                seen += 1;
                Flow::Continue
            });
            assert_eq!(ring.drain(until, sink, |_| ())?.entries, 509);
            assert_eq!(seen, 509);
        }
        Ok(())
    }

    #[test]
    fn what_was_posted_later_waits() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-later")?;
        let mut ring = ring(&dev, 9)?;
        let mut poster = Poster {
            ring: &ring,
            count: 0,
        };
        for n in 0..512 {
            poster.post(write(n));
        }
        // Counts inside of chunks and between them, less than a batch and more.
        let mut before = 0;
        for count in [20, 32, 33, 200, 208, 500, 512u32] {
            let mut seen = u64::from(before);
            let sink = entries(|entry| {
                assert_eq!(entry, write(seen));
                seen += 1;
                Flow::Continue
            });
            let done = ring.drain(Until::Count(count), sink, |_| ())?;
            assert_eq!((done.entries, seen), (count - before, count.into()));
            before = count;
        }
        Ok(())
    }

    #[test]
    fn errors_stay() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-errors")?;
        // A missing entry, a count that exceeds the ring, and an undefined entry.
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
