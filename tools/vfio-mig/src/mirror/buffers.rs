// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which page is the next receive buffer.
//!
//! A log can lose pages in two ways, and each shows in another pattern of writes. A page
//! that is written once and then left alone shows a write that was never logged. A page
//! that is written again and again shows a write that was taken for a repeat. So most
//! buffers are *cold*: the NIC walks through all memory in a random order; and some are
//! *hot*: a small set that comes back every few milliseconds.

use std::collections::VecDeque;

use rand::{rngs::SmallRng, seq::SliceRandom, Rng, SeedableRng};

/// Pages of the hot set, at most.
const HOT: usize = 128;
/// Every so manieth buffer is hot.
const HOT_SHARE: u32 = 4;

/// The pages that the NIC does not have.
#[derive(Debug)]
pub struct Pool {
    hot: VecDeque<u64>,
    cold: VecDeque<u64>,
    hot_pages: Vec<u64>,
    rng: SmallRng,
}

impl Pool {
    /// All of `pages`, in an order that follows from `seed`.
    pub fn new(mut pages: Vec<u64>, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        pages.shuffle(&mut rng);
        let mut hot_pages = pages.split_off(pages.len() - HOT.min(pages.len() / 2));
        let hot = hot_pages.iter().copied().collect();
        hot_pages.sort_unstable();
        Self {
            hot,
            cold: pages.into(),
            hot_pages,
            rng,
        }
    }

    /// The next buffer; the NIC has it from now on.
    pub fn take(&mut self) -> Option<u64> {
        let hot = self.rng.random_ratio(1, HOT_SHARE);
        let (first, second) = if hot {
            (&mut self.hot, &mut self.cold)
        } else {
            (&mut self.cold, &mut self.hot)
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// The NIC has given this one back.
    pub fn give_back(&mut self, page: u64) {
        if self.hot_pages.binary_search(&page).is_ok() {
            self.hot.push_back(page);
        } else {
            self.cold.push_back(page);
        }
    }

    /// Random number below `limit`, which is not 0.
    pub fn random(&mut self, limit: usize) -> usize {
        self.rng.random_range(0..limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn every_page_is_out_at_most_once() {
        let mut pool = Pool::new((0..1000).collect(), 1);
        let mut out = HashSet::new();
        while let Some(page) = pool.take() {
            assert!(out.insert(page));
        }
        assert_eq!(out.len(), 1000);
        pool.give_back(7);
        assert_eq!(pool.take(), Some(7));
    }

    #[test]
    fn some_pages_come_back_soon_and_all_come_some_day() {
        let mut pool = Pool::new((0..2000).collect(), 1);
        let mut uses = HashMap::new();
        for _ in 0..6000 {
            if let Some(page) = pool.take() {
                *uses.entry(page).or_insert(0) += 1;
                pool.give_back(page);
            }
        }
        assert_eq!(uses.len(), 2000);
        let often = uses.values().filter(|&&n| n > 6).count();
        assert_eq!(often, HOT);
    }

    #[test]
    fn the_seed_decides() {
        let order = |seed| {
            let mut pool = Pool::new((0..100).collect(), seed);
            std::iter::from_fn(|| pool.take()).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
