// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the driver's end of a log ring, in plain memory.

use kernel::prelude::*;

#[kunit_tests(vfio_ring_consumer)]
mod tests {
    use super::super::super::format::{
        Entry,
        Plain, //
    };
    use super::super::*;

    struct TestLog([core::cell::Cell<u64>; 2 * CHUNK]);

    impl Chunks for TestLog {
        fn read<T>(&self, index: usize, to: &mut [T], mut f: impl FnMut(u64) -> T) -> bool {
            let mut words = self.0.iter().skip(index * CHUNK);
            to.iter_mut().all(|place| {
                let word = words.next();
                word.map(|word| *place = f(word.get())).is_some()
            })
        }

        fn chunk(&self, index: usize) -> Option<[u64; CHUNK]> {
            let mut words = [0; CHUNK];
            for (i, word) in words.iter_mut().enumerate() {
                *word = self.word(index, i)?;
            }
            Some(words)
        }

        fn word(&self, index: usize, offset: usize) -> Option<u64> {
            self.0.get(index * CHUNK + offset).map(|c| c.get())
        }
    }

    #[test]
    fn log_follows_the_phase() {
        let ring = TestLog([const { core::cell::Cell::new(0) }; 2 * CHUNK]);
        let mut consumer = LogConsumer::new(5);
        for count in 0..300u64 {
            let word = Plain::encode(Entry::Sync { cookie: count }, count >> 5 & 1 == 0);
            for posted in [false, true] {
                assert_eq!(consumer.fetch::<Plain>(&ring, 99, posted).words(), &[]);
            }
            ring.0[(count & 31) as usize].set(word);
            for posted in [false, true] {
                assert_eq!(consumer.fetch::<Plain>(&ring, 99, posted).words(), &[word]);
                assert_eq!(consumer.fetch::<Plain>(&ring, 0, posted).words(), &[]);
            }
            consumer.advance(1);
        }
    }

    #[test]
    fn nothing_behind_a_gap_is_taken() {
        let ring = TestLog([const { core::cell::Cell::new(0) }; 2 * CHUNK]);
        let consumer = LogConsumer::new(5);
        let word = Plain::encode(Entry::Lost, true);
        ring.0[0].set(word);
        ring.0[2].set(word);
        for posted in [false, true] {
            assert_eq!(consumer.fetch::<Plain>(&ring, 3, posted).words(), &[word]);
        }
    }

    #[test]
    fn whole_chunks_of_writes_are_decoded_at_once() {
        let ring = TestLog([const { core::cell::Cell::new(0) }; 2 * CHUNK]);
        let consumer = LogConsumer::new(5);
        let mut runs = [Run::FIRST; 3 * CHUNK];
        for (i, word) in ring.0.iter().enumerate() {
            let run = Run::from_word((i << 8 | i) as u64);
            word.set(Plain::encode(Entry::Write(run), true));
        }
        // As much as there is room for, in whole chunks, and up to the end of the ring.
        for (room, want) in [(15, 0), (16, 16), (31, 16), (32, 32), (48, 32)] {
            assert_eq!(
                consumer.fetch_writes::<Plain>(&ring, &mut runs[..room]),
                want
            );
        }
        for (run, i) in runs.iter().take(32).zip(0..) {
            assert_eq!((run.start(), run.more()), (i, i));
        }
        // The wrong phase, another type; not at the beginning of a chunk.
        for place in [0, 7, 15, 16, 31] {
            for wrong in [1, 2, 4, 8] {
                let word = ring.0[place].get();
                ring.0[place].set(word ^ wrong);
                assert_eq!(consumer.fetch_writes::<Plain>(&ring, &mut runs), 0);
                let first = consumer.fetch_writes::<Plain>(&ring, &mut runs[..CHUNK]);
                assert_eq!(first, if place < CHUNK { 0 } else { CHUNK });
                ring.0[place].set(word);
            }
        }
        let mut later = consumer;
        later.advance(1);
        assert_eq!(later.fetch_writes::<Plain>(&ring, &mut runs), 0);
        // The second half, and then nothing of the next pass.
        later.advance(15);
        assert_eq!(later.fetch_writes::<Plain>(&ring, &mut runs), 16);
        assert_eq!((runs[0].start(), runs[15].start()), (16, 31));
        later.advance(16);
        assert_eq!(later.fetch_writes::<Plain>(&ring, &mut runs), 0);
    }

    #[test]
    fn posted_counts_modulo_2_to_31() {
        let consumer = LogConsumer {
            order: 4,
            head: 0x7fff_fffe,
        };
        assert_eq!(consumer.outstanding::<Plain>(0x7fff_fffe), Some(0));
        assert_eq!(consumer.outstanding::<Plain>(0x7fff_ffff), Some(1));
        assert_eq!(consumer.outstanding::<Plain>(14), Some(16));
        assert_eq!(consumer.outstanding::<Plain>(15), None);
        assert_eq!(consumer.outstanding::<Plain>(0x7fff_fffd), None);
        let later = LogConsumer {
            order: 4,
            head: 0x8000_0001,
        };
        assert_eq!(later.outstanding::<Plain>(1), Some(0));
        assert_eq!(later.outstanding::<Plain>(3), Some(2));
    }
}
