// SPDX-License-Identifier: GPL-2.0

//! Bit operations on slices of words of 64 bits.

use kernel::prelude::*;

/// Number of bits of a word.
const BITS: u64 = 64;

/// Sets the bits `[lo, hi)`.
pub(super) fn set(words: &mut [u64], lo: u64, hi: u64) {
    each_word(words, lo, hi, |mask, word| *word |= mask);
}

/// Clears the bits `[lo, hi)`.
pub(super) fn clear(words: &mut [u64], lo: u64, hi: u64) {
    each_word(words, lo, hi, |mask, word| *word &= !mask);
}

/// Returns whether a bit in `[lo, hi)` is set.
pub(super) fn any(words: &[u64], lo: u64, hi: u64) -> bool {
    within(words, lo, hi).any(|(_, bits)| bits != 0)
}

/// Calls `f` for each word that has a set bit in `[lo, hi)`, in ascending order, with the number of
/// the first bit of the word and with its bits in `[lo, hi)`.
///
/// # Errors
///
/// The first error of `f`, which is not called again.
#[inline(always)]
pub(super) fn each(
    words: &[u64],
    lo: u64,
    hi: u64,
    mut f: impl FnMut(u64, u64) -> Result,
) -> Result {
    for (base, bits) in within(words, lo, hi) {
        if bits != 0 {
            f(base, bits)?;
        }
    }
    Ok(())
}

/// Returns the words that `[lo, hi)` touches, each as the number of its first bit and its bits in
/// `[lo, hi)`.
#[inline(always)]
fn within(words: &[u64], lo: u64, hi: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
    // CAST: These are indices of the slice, or lie beyond its end.
    let first = (lo / BITS) as usize;
    let end = hi.div_ceil(BITS).min(words.len() as u64) as usize;
    let touched = words.get(first..end).unwrap_or_default();
    let mut next = lo / BITS * BITS;
    touched.iter().map(move |word| {
        let base = next;
        next = base.saturating_add(BITS);
        (base, *word & window(base, lo, hi))
    })
}

/// Calls `f(mask, word)` for each word that `[lo, hi)` touches. `mask` has its bits in `[lo, hi)`.
#[inline]
fn each_word(words: &mut [u64], lo: u64, hi: u64, mut f: impl FnMut(u64, &mut u64)) {
    // CAST: These are indices of the slice, or lie beyond its end.
    let first = (lo / BITS) as usize;
    let end = hi.div_ceil(BITS).min(words.len() as u64) as usize;
    let mut base = lo / BITS * BITS;
    for word in words.get_mut(first..end).unwrap_or_default() {
        f(window(base, lo, hi), word);
        base = base.saturating_add(BITS);
    }
}

/// Returns a mask of the bits in `[lo, hi)` of the word whose first bit has the number `base`.
#[inline(always)]
fn window(base: u64, lo: u64, hi: u64) -> u64 {
    if lo <= base && base.saturating_add(BITS) <= hi {
        return u64::MAX;
    }
    let below = lo.saturating_sub(base).min(BITS);
    let end = hi.saturating_sub(base).min(BITS);
    low(end) & !low(below)
}

/// Returns a mask of the lowest `n` bits. `n` is at most 64.
#[inline]
fn low(n: u64) -> u64 {
    // CAST: `n` is at most 64.
    u64::MAX
        .checked_shr(64u32.saturating_sub(n as u32))
        .unwrap_or(0)
}

#[kunit_tests(vfio_dirty_words)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        assert_eq!(window(0, 0, 64), u64::MAX);
        assert_eq!(window(64, 0, 64), 0);
        assert_eq!(window(64, 65, u64::MAX), u64::MAX << 1);
        assert_eq!(window(64, 68, 72), 0xf0);
        assert_eq!(window(64, 63, 72), 0xff);
        assert_eq!(window(64, 10, 20), 0);
        assert_eq!(window(64, 200, 300), 0);
    }

    #[test]
    fn words_that_are_touched() -> Result {
        let mut words = [0u64; 3];
        for (lo, hi) in [(1, 3), (5, 6), (190, 192)] {
            set(&mut words, lo, hi);
        }
        for (lo, hi, want) in [
            (0, 192, [(0, 0x26), (128, 3 << 62)]),
            (2, 191, [(0, 0x24), (128, 1 << 62)]),
        ] {
            let mut n = 0;
            each(&words, lo, hi, |base, bits| {
                assert_eq!((base, bits), want[n]);
                n += 1;
                Ok(())
            })?;
            assert_eq!(n, want.len());
        }
        // The first error ends it.
        let mut n = 0;
        let stopped = each(&words, 0, 192, |_, _| {
            n += 1;
            Err(EINTR)
        });
        assert_eq!((stopped, n), (Err(EINTR), 1));
        Ok(())
    }

    #[test]
    fn changes_what_it_is_told() {
        let mut words = [0u64; 3];
        set(&mut words, 60, 70);
        set(&mut words, 65, 75);
        assert_eq!(words, [0xf << 60, (1 << 11) - 1, 0]);
        clear(&mut words, 62, 64);
        clear(&mut words, 62, 64);
        assert_eq!(words, [3 << 60, (1 << 11) - 1, 0]);
        assert!(!any(&words, 62, 64));
        assert!(any(&words, 61, 62));
        assert!(any(&words, 64, 65));
        assert!(!any(&words, 75, 192));
        set(&mut words, 64, 192);
        assert_eq!(words, [3 << 60, u64::MAX, u64::MAX]);
        clear(&mut words, 0, 192);
        assert_eq!(words, [0; 3]);
    }
}
