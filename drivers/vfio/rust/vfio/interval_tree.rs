// SPDX-License-Identifier: GPL-2.0

//! The interval tree of ranges that VFIO passes when logging starts.
//!
//! C header: [`include/linux/interval_tree.h`](srctree/include/linux/interval_tree.h)

use super::iova_bitmap::IovaRange;
use crate::{
    bindings,
    ext::gfp, //
};
use kernel::{
    bindings as kbindings,
    prelude::*, //
};

/// Copies the ranges of a tree into a list, in ascending order and merged to at most `max`
/// (contract L3 to L5).
///
/// # Errors
///
/// `EINVAL` for a range of length 0 and when `max` is 0, `ENOMEM`.
///
/// # Safety
///
/// `root` is a tree of `nnodes` `struct interval_tree_node` that no other thread uses.
pub(super) unsafe fn copy_out(
    root: *mut kbindings::rb_root_cached,
    nnodes: u32,
    max: usize,
) -> Result<KVec<IovaRange>> {
    let max = u32::try_from(max).unwrap_or(u32::MAX);
    if max == 0 {
        return Err(EINVAL);
    }
    // Refuse ranges of length 0 before merging hides them. The core passes such a range as an
    // interval whose end is before its start, or as the whole space for {0, 0}.
    //
    // SAFETY: As promised by the caller.
    unsafe {
        for_each(root, |start, last| {
            if last < start || last == usize::MAX {
                Err(EINVAL)
            } else {
                Ok(())
            }
        })?;
    }
    if nnodes > max {
        // SAFETY: As promised by the caller; `max` is not 0.
        unsafe { bindings::vfio_combine_iova_ranges(root, nnodes, max) };
    }
    let mut ranges = KVec::with_capacity(nnodes.min(max) as usize, gfp::USER)?;
    // SAFETY: As promised by the caller.
    unsafe {
        for_each(root, |start, last| {
            let length = (last - start) as u64 + 1;
            Ok(ranges.push(IovaRange::new(start as u64, length)?, gfp::USER)?)
        })?;
    }
    Ok(ranges)
}

/// Calls `f(start, last)` for each node in ascending order. This also works after
/// `vfio_combine_iova_ranges()`, which leaves the tree fit only for a walk from one end to the
/// other.
///
/// # Safety
///
/// `root` is a tree of `struct interval_tree_node` that no other thread uses.
unsafe fn for_each(
    root: *mut kbindings::rb_root_cached,
    mut f: impl FnMut(usize, usize) -> Result,
) -> Result {
    // SAFETY: As promised by the caller.
    let mut node = unsafe { bindings::interval_tree_iter_first(root, 0, usize::MAX) };
    while !node.is_null() {
        // SAFETY: The tree holds valid nodes.
        let (start, last) = unsafe { ((*node).start, (*node).last) };
        f(start, last)?;
        // SAFETY: `node` is a node of the tree.
        node = unsafe { bindings::interval_tree_iter_next(node, 0, usize::MAX) };
    }
    Ok(())
}

#[kunit_tests(vfio_interval_tree)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_out_ascending() -> Result {
        let out = copy(&[(0x9000, 0x9fff), (0x1000, 0x1fff)], 8)?;
        assert_eq!(out.len(), 2);
        assert_eq!(out[0], IovaRange::new(0x1000, 0x1000)?);
        assert_eq!(out[1], IovaRange::new(0x9000, 0x1000)?);
        Ok(())
    }

    #[test]
    fn too_many_are_merged_over_the_smallest_gap() -> Result {
        let out = copy(&[(0x1000, 0x1fff), (0x3000, 0x3fff), (0x9000, 0x9fff)], 2)?;
        assert_eq!(out.len(), 2);
        assert_eq!(out[0], IovaRange::new(0x1000, 0x3000)?);
        assert_eq!(out[1], IovaRange::new(0x9000, 0x1000)?);
        Ok(())
    }

    #[test]
    fn zero_length_is_refused() {
        assert!(copy(&[(0, usize::MAX)], 8).is_err());
        assert!(copy(&[(0x1000, 0xfff)], 8).is_err());
        assert!(copy(&[(0x1000, 0x1fff)], 0).is_err());
    }

    fn copy(ranges: &[(usize, usize)], max: usize) -> Result<KVec<IovaRange>> {
        let mut root = kbindings::rb_root_cached::default();
        let mut nodes: KVec<KBox<bindings::interval_tree_node>> = KVec::new();
        for &(start, last) in ranges {
            let node = bindings::interval_tree_node {
                start,
                last,
                ..Default::default()
            };
            nodes.push(KBox::new(node, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        for node in &mut nodes {
            // SAFETY: Only this function uses the tree and the nodes; boxed nodes do not move.
            unsafe { bindings::interval_tree_insert(&raw mut **node, &raw mut root) };
        }
        // SAFETY: The tree holds `ranges.len()` valid nodes and no other thread uses it.
        unsafe { copy_out(&raw mut root, ranges.len() as u32, max) }
    }
}
