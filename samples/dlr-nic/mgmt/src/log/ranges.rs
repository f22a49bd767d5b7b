// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The tracked ranges of a log, and a sparse set of granules (the filter).

use std::collections::BTreeMap;

/// Disjoint, sorted ranges of granule numbers, `[start, end)`.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `[start, end)`, joining what touches. False, and nothing done, when more than
    /// `max` ranges would result.
    pub(crate) fn add(&mut self, start: u64, end: u64, max: usize) -> bool {
        let (mut lo, mut hi) = (start, end);
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        for &(s, e) in &self.0 {
            if e < lo || s > hi {
                rest.push((s, e));
            } else {
                lo = lo.min(s);
                hi = hi.max(e);
            }
        }
        if rest.len() >= max {
            return false;
        }
        let at = rest.partition_point(|&(s, _)| s < lo);
        rest.insert(at, (lo, hi));
        self.0 = rest;
        true
    }

    /// The parts of `[start, end)` that are tracked, in order.
    pub(crate) fn clip(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self.0.partition_point(|&(_, e)| e <= start);
        self.0
            .iter()
            .skip(from)
            .take_while(move |&&(s, _)| s < end)
            .map(move |&(s, e)| (s.max(start), e.min(end)))
    }
}

const CHUNK_SHIFT: u32 = 12;
const CHUNK: u64 = 1 << CHUNK_SHIFT;
const WORDS: usize = (CHUNK / 64) as usize;

/// Sparse set of granule numbers: costs nothing where nothing was written.
#[derive(Debug, Default)]
pub(crate) struct Filter(BTreeMap<u64, Box<[u64; WORDS]>>);

impl Filter {
    /// Adds `granule`; false when it was there.
    pub(crate) fn insert(&mut self, granule: u64) -> bool {
        let chunk = self
            .0
            .entry(granule >> CHUNK_SHIFT)
            .or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = Self::place(granule);
        let fresh = chunk[word] & bit == 0;
        chunk[word] |= bit;
        fresh
    }

    /// Removes all of `[start, end)`.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (first, last) = (start >> CHUNK_SHIFT, (end - 1) >> CHUNK_SHIFT);
        let mut empty = Vec::new();
        for (&index, chunk) in self.0.range_mut(first..=last) {
            let base = index << CHUNK_SHIFT;
            let from = start.saturating_sub(base).min(CHUNK);
            let to = (end - base).min(CHUNK);
            if from == 0 && to == CHUNK {
                empty.push(index);
                continue;
            }
            for granule in from..to {
                let (word, bit) = Self::place(granule);
                chunk[word] &= !bit;
            }
        }
        for index in empty {
            self.0.remove(&index);
        }
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn place(granule: u64) -> (usize, u64) {
        let in_chunk = granule & (CHUNK - 1);
        ((in_chunk / 64) as usize, 1 << (in_chunk % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn ranges_are_a_set(adds in prop::collection::vec((0u64..60, 1u64..12), 1..20),
                            q in (0u64..70, 0u64..20)) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (s, l) in adds {
                if ranges.add(s, s + l, 4) {
                    model.extend(s..s + l);
                }
            }
            prop_assert!(ranges.0.len() <= 4);
            prop_assert!(ranges.0.windows(2).all(|w| w[0].1 < w[1].0));
            let got: BTreeSet<u64> = ranges.clip(q.0, q.0 + q.1).flat_map(|(s, e)| s..e).collect();
            let want: BTreeSet<u64> = model.range(q.0..q.0 + q.1).copied().collect();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn filter_is_a_set(ops in prop::collection::vec(
            (any::<bool>(), 0u64..20_000, 1u64..9_000), 1..60)) {
            let mut filter = Filter::default();
            let mut model = BTreeSet::new();
            for (insert, at, len) in ops {
                if insert {
                    prop_assert_eq!(filter.insert(at), model.insert(at));
                } else {
                    filter.remove(at, at + len);
                    model.retain(|g| !(at..at + len).contains(g));
                }
            }
            for g in 0..29_000 {
                let word = Filter::place(g);
                let set = filter.0.get(&(g >> CHUNK_SHIFT)).is_some_and(|c| c[word.0] & word.1 != 0);
                prop_assert_eq!(set, model.contains(&g));
            }
        }
    }
}
