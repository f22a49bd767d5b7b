// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Numbers that look random and are the same again for the same seed, whatever crates are used:
//! SplitMix64.

/// A source of them.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The source number `part` of `seed`.
    pub(super) fn new(seed: u64, part: u64) -> Self {
        let mut this = Self(seed ^ part.wrapping_mul(0xd134_2543_de82_ef95));
        this.number();
        this
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub(super) fn below(&mut self, limit: u32) -> u32 {
        (((self.number() >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// In `percent` of all cases.
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(super) fn one<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let number = self.below(others.len() as u32 + 1) as usize;
        number
            .checked_sub(1)
            .and_then(|at| others.get(at))
            .map_or(first, |other| *other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_again_and_another_one_does_not() {
        let take = |seed, part| {
            let mut random = Random::new(seed, part);
            [0; 8].map(|_| random.number())
        };
        assert_eq!(take(7, 1), take(7, 1));
        assert_ne!(take(7, 1), take(7, 2));
        assert_ne!(take(7, 1), take(8, 1));
    }

    #[test]
    fn all_of_a_few_come() {
        let mut random = Random::new(1, 0);
        let mut seen = [0; 4];
        for _ in 0..400 {
            seen[random.one(0, &[1, 2, 3])] += 1;
            assert!(random.below(3) < 3);
        }
        assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
