// SPDX-License-Identifier: GPL-2.0

//! Memory of the bitmap. It counts the sizes that the slab allocator returns, nodes included.

use super::{
    device::Stub,
    log::{
        Bed,
        Log, //
    },
    pages::{
        distinct,
        page,
        value,
        Random,
        GIB, //
    },
};
use crate::vfio::dirty::ring::format::Format;
use kernel::prelude::*;

/// Returns the bits of memory for each of `pages`, in thousandths.
fn bits(bytes: usize, pages: u64) -> u64 {
    (bytes as u64 * 8 * 1000).checked_div(pages).unwrap_or(0)
}

/// Returns the memory in bytes if these pages of `tracked` are dirty.
fn taken<F: Format>(bed: &Bed, tracked: u64, pages: &[u64]) -> Result<usize> {
    let stub = Stub::<F>::new(&bed.dma, pages.len(), |i| {
        page(pages.get(i).copied().unwrap_or(0))
    })?;
    let mut log = Log::start(bed, &stub, tracked)?;
    log.drain()?;
    Ok(log.memory())
}

/// Runs all cases named `memory.*`.
pub(super) fn all<F: Format>(bed: &Bed) -> Result {
    let few = distinct(1024 * GIB, 2 << 20)?;
    let bytes = taken::<F>(bed, 1024 * GIB, &few)?;
    value("memory.sparse", bits(bytes, few.len() as u64));
    drop(few);

    // Each page of the tracked memory is dirty with the same probability.
    let tracked = 8 * GIB;
    let mut peak = 0;
    for shift in 0..=10 {
        let mut random = Random(77 + shift);
        let mut list = KVVec::new();
        for number in 0..tracked {
            if random.below(1 << shift) == 0 {
                list.push(number, GFP_KERNEL)?;
            }
        }
        let bytes = taken::<F>(bed, tracked, &list)?;
        let share = bits(bytes, tracked);
        if shift == 1 {
            value("memory.dense", share);
        }
        peak = peak.max(share);
    }
    value("memory.peak", peak);

    let stub = Stub::<F>::new(&bed.dma, 1, |_| page(0))?;
    let clean = Log::start(bed, &stub, 1024 * GIB)?.memory();
    value("memory.clean", bits(clean, 1));
    Ok(())
}
