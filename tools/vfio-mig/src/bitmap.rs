// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Dirty bitmaps: bit n of word n / 64 stands for page n of a range.

use std::ops::Range;

/// One bit per page of a range of known length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyBitmap {
    words: Vec<u64>,
    pages: u64,
}

impl DirtyBitmap {
    /// All clean.
    pub fn new(pages: u64) -> Self {
        Self {
            words: vec![0; pages.div_ceil(64) as usize],
            pages,
        }
    }

    /// Number of pages it stands for.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words, for REPORT to set bits in.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Marks one page; one beyond the end is ignored.
    pub fn set(&mut self, page: u64) {
        if page < self.pages {
            self.words[(page / 64) as usize] |= 1 << (page % 64);
        }
    }

    /// Marks every page that is marked in `words`.
    pub fn merge(&mut self, words: &[u64]) {
        for (own, other) in self.words.iter_mut().zip(words) {
            *own |= other;
        }
    }

    /// Marks all pages.
    pub fn set_all(&mut self) {
        self.words.fill(u64::MAX);
    }

    /// Is this page marked?
    pub fn get(&self, page: u64) -> bool {
        page < self.pages && self.words[(page / 64) as usize] >> (page % 64) & 1 == 1
    }

    fn word(&self, index: usize) -> u64 {
        let word = self.words.get(index).copied().unwrap_or(0);
        let valid = self.pages.saturating_sub(index as u64 * 64);
        if valid >= 64 {
            word
        } else {
            word & ((1 << valid) - 1)
        }
    }

    /// Bits beyond the last page: a kernel must never set one.
    pub fn stray_bits(&self) -> u32 {
        let all: u32 = self.words.iter().map(|w| w.count_ones()).sum();
        all - self.count() as u32
    }

    /// Number of marked pages.
    pub fn count(&self) -> u64 {
        (0..self.words.len())
            .map(|i| u64::from(self.word(i).count_ones()))
            .sum()
    }

    /// All pages are marked: what a log reports that has lost track.
    pub fn is_full(&self) -> bool {
        self.count() == self.pages
    }

    /// Runs of marked pages, upwards.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.find(at, true)?;
            let end = self.find(start, false).unwrap_or(self.pages);
            at = end;
            Some(start..end)
        })
    }

    /// First page from `from` on whose mark is `marked`.
    fn find(&self, from: u64, marked: bool) -> Option<u64> {
        let mut index = (from / 64) as usize;
        let mut skip = from % 64;
        while index < self.words.len() {
            let word = self.word(index);
            let hits = if marked { word } else { !word } & (u64::MAX << skip);
            if hits != 0 {
                let page = index as u64 * 64 + u64::from(hits.trailing_zeros());
                return (page < self.pages).then_some(page);
            }
            index += 1;
            skip = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(bitmap: &DirtyBitmap) -> Vec<(u64, u64)> {
        bitmap.runs().map(|run| (run.start, run.end)).collect()
    }

    fn runs(pages: u64, marks: &[u64]) -> Vec<(u64, u64)> {
        let mut bitmap = DirtyBitmap::new(pages);
        marks.iter().for_each(|&p| bitmap.set(p));
        pairs(&bitmap)
    }

    #[test]
    fn runs_across_words() {
        assert_eq!(runs(200, &[]), []);
        assert_eq!(runs(200, &[0]), [(0, 1)]);
        assert_eq!(runs(200, &[62, 63, 64, 65, 199]), [(62, 66), (199, 200)]);
        let all: Vec<u64> = (0..130).collect();
        assert_eq!(runs(130, &all), [(0, 130)]);
        assert_eq!(runs(128, &all), [(0, 128)]);
    }

    #[test]
    fn bits_beyond_the_end_are_stray() {
        let mut bitmap = DirtyBitmap::new(70);
        bitmap.words_mut().fill(u64::MAX);
        assert_eq!(bitmap.count(), 70);
        assert!(bitmap.is_full());
        assert_eq!(bitmap.stray_bits(), 58);
        assert_eq!(pairs(&bitmap), [(0, 70)]);
        assert!(!bitmap.get(70));
    }

    #[test]
    fn merge_keeps_both() {
        let mut bitmap = DirtyBitmap::new(128);
        bitmap.set(1);
        bitmap.merge(&[0b100, 1]);
        assert_eq!(pairs(&bitmap), [(1, 3), (64, 65)]);
        assert_eq!(bitmap.count(), 3);
        assert!(bitmap.get(64) && !bitmap.get(0));
    }
}
