// SPDX-License-Identifier: GPL-2.0

//! Pages that the device wrote, and messages with the results.

use super::device::Stub;
use crate::vfio::{
    bench::{
        Flat,
        User,
        Words, //
    },
    dirty::{
        ring::format::{
            Entry,
            Format, //
        },
        run::Run,
    },
    iova_bitmap::IovaRange,
};
use kernel::prelude::*;

/// Number of pages of 4 KiB in a GiB.
pub(super) const GIB: u64 = 1 << 18;
/// Number of entries of the C loop beyond 64 GiB, where each entry pins pages of the user.
pub(super) const FEW: usize = 20_000;

/// Prints the times of a pass.
pub(super) fn sample(name: &str, ours: u64, base: u64, count: usize) {
    pr_info!("bench: sample {} {} {} {}\n", name, ours, base, count);
}

/// Prints a value in thousandths.
pub(super) fn value(name: &str, thousandths: u64) {
    pr_info!("bench: value {} {}\n", name, thousandths);
}

/// A pseudo-random generator with a fixed seed (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        // A multiple of 2^-64: the high half of a product, without a division.
        let x = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        ((u128::from(x) * u128::from(n)) >> 64) as u64
    }
}

/// Returns `count` distinct pages of `pages`, in random order.
pub(super) fn distinct(pages: u64, count: usize) -> Result<KVVec<u64>> {
    let mut seen = Flat::new(pages)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut list = KVVec::with_capacity(count, GFP_KERNEL)?;
    while list.len() < count {
        let page = random.below(pages);
        if seen.insert(page) {
            list.push(page, GFP_KERNEL)?;
        }
    }
    Ok(list)
}

/// Returns the entry of one page.
pub(super) fn page(number: u64) -> Entry {
    run(number, 1)
}

/// Returns the entry of `count` pages from `first`, at most 256.
pub(super) fn run(first: u64, count: u64) -> Entry {
    Entry::Write(Run::from_word(first << 8 | count.saturating_sub(1)))
}

/// Returns the range of `pages` pages from address 0.
pub(super) fn whole(pages: u64) -> Result<IovaRange> {
    IovaRange::new(0, pages << 12)
}

/// Calls `f` with the words of each ring.
pub(super) fn each_words<F: Format>(stub: &Stub<F>, mut f: impl FnMut(Words<'_>)) {
    stub.with_words(|ring, count| ring.with_memory(|memory| f(Words::of(memory, count))));
}

/// Checks that `pages` bits of the user's bitmap are set.
pub(super) fn holds(user: &User, pages: u64) -> Result {
    let found = user.count();
    if found != pages {
        pr_err!("bench: {} pages reported, not {}\n", found, pages);
        return Err(EIO);
    }
    Ok(())
}
