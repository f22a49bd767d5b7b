// SPDX-License-Identifier: GPL-2.0

//! Random spans for the tests of this folder.

use super::{
    chunk::CHUNK_GRANULES,
    random::Random,
    span::Span, //
};
use kernel::prelude::*;

impl Random {
    /// Returns a span below `n`. Half of the spans begin near an edge of a word or chunk, and most
    /// are short.
    pub(in super::super) fn span(&mut self, n: u64) -> Result<Span> {
        let at = self.below(n);
        let at = match self.below(4) {
            0 => at / CHUNK_GRANULES * CHUNK_GRANULES + self.below(4),
            1 => at / 64 * 64 + self.below(3),
            _ => at,
        };
        let start = at.saturating_sub(self.below(3)).min(n - 1);
        let most = match self.below(8) {
            0 => n - start,
            1 => CHUNK_GRANULES + 2,
            2 | 3 => 130,
            _ => 4,
        };
        let length = 1 + self.below(most.min(n - start));
        Span::new(start, start + length).ok_or(EINVAL)
    }
}
