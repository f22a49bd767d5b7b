// SPDX-License-Identifier: GPL-2.0

//! The nodes of the tree of chunks, and functions that walk them.

use super::{
    chunk::{
        split,
        Chunk,
        CHUNK_SHIFT, //
    },
    memory::MemoryLimit,
    run::Run,
    span::{
        Merger,
        Span,
        MAX_GRANULE, //
    },
};
use kernel::prelude::*;

/// Log2 of the number of children of a node.
const FAN_SHIFT: u32 = 8;
/// Number of children of a node.
const FAN: usize = 1 << FAN_SHIFT;
/// Children of a node above the lowest level.
type Inner = [Option<Node>; FAN];
/// Children of a node of the lowest level.
type Chunks = [Option<Chunk>; FAN];
/// Size of a node in bytes.
pub(super) const NODE_BYTES: usize = 4096;

/// Number of levels of a tree that has room for all granules.
pub(super) const MAX_LEVELS: u32 = 5;

static_assert!(MAX_GRANULE >> span_shift(MAX_LEVELS) == 0);
static_assert!(MAX_GRANULE >> span_shift(MAX_LEVELS - 1) != 0);
static_assert!(size_of::<Inner>() == NODE_BYTES);
static_assert!(size_of::<Chunks>() == NODE_BYTES);

/// A node of the tree of chunks.
///
/// # Invariants
///
/// A node has at least one child, except while a function of this file adds the first one or
/// removes the last one.
pub(super) enum Node {
    /// A node of level 2 or higher.
    Inner(KBox<Inner>),
    /// A node of level 1, whose children are chunks.
    Chunks(KBox<Chunks>),
}

/// Returns the index of the child that contains `granule` in a node of `level`. Nodes of level 1
/// have chunks as children.
#[inline]
pub(super) fn child(granule: u64, level: u32) -> usize {
    // CAST: Only the lowest 8 bits are wanted.
    usize::from((granule >> span_shift(level.wrapping_sub(1))) as u8)
}

/// Returns the log2 of the number of granules below a node of `level`; for level 0, of a chunk.
#[inline]
pub(super) const fn span_shift(level: u32) -> u32 {
    // OVERFLOW: There are at most 5 levels: 13 + 5 * 8 = 53.
    CHUNK_SHIFT.wrapping_add(FAN_SHIFT.wrapping_mul(level)) & 63
}

/// Returns the granules of child `index` of a node of `level` that begins at granule `base`.
pub(super) fn part(base: u64, index: usize, level: u32) -> Option<Span> {
    let size = 1u64 << span_shift(level.wrapping_sub(1));
    let start = base.checked_add(size.checked_mul(index as u64)?)?;
    Span::new(start, start.checked_add(size)?.min(MAX_GRANULE))
}

/// Returns the indices of the children that `span` touches in a node of `level` that begins at
/// granule `base`. `span` touches the node.
pub(super) fn touched(base: u64, span: Span, level: u32) -> core::ops::RangeInclusive<usize> {
    let end = base.saturating_add(1u64 << span_shift(level));
    let first = span.start().max(base);
    let last = span.end().min(end).saturating_sub(1);
    child(first, level)..=child(last, level)
}

/// Returns the place of the chunk that contains `granule` below a node of level `LEVELS`, which is
/// at least 2; `None` if there is no node for it.
#[inline(always)]
fn place_below<const LEVELS: u32>(root: &mut Inner, granule: u64) -> Option<&mut Option<Chunk>> {
    let mut children = root;
    let mut level = LEVELS;
    loop {
        let node = children.get_mut(child(granule, level))?.as_mut()?;
        level = level.wrapping_sub(1);
        match node {
            Node::Inner(next) if level > 1 => children = next,
            Node::Chunks(chunks) if level == 1 => return chunks.get_mut(child(granule, 1)),
            _ => return None,
        }
    }
}

/// Returns the chunk that contains `granule` in a tree of `LEVELS` levels.
#[inline]
pub(super) fn chunk_mut<const LEVELS: u32>(root: &mut Node, granule: u64) -> Option<&mut Chunk> {
    if granule >> span_shift(LEVELS) != 0 {
        return None;
    }
    match root {
        Node::Inner(children) => place_below::<LEVELS>(children, granule)?.as_mut(),
        Node::Chunks(chunks) => chunks.get_mut(child(granule, 1))?.as_mut(),
    }
}

/// Marks `runs` from the first on in a tree of `LEVELS` levels, up to a run that is not a single
/// granule or whose mark needs memory. Returns the rest.
#[inline]
pub(super) fn put_each<'a, const LEVELS: u32>(root: &mut Node, runs: &'a [Run]) -> &'a [Run] {
    // Match on the root once, not for each granule.
    match root {
        Node::Inner(children) => put_all(runs, LEVELS, |granule| {
            Chunk::put(place_below::<LEVELS>(children, granule)?, granule)
        }),
        Node::Chunks(chunks) => put_all(runs, LEVELS, |granule| {
            Chunk::put(chunks.get_mut(child(granule, 1))?, granule)
        }),
    }
}

/// Does the work of [`put_each`], with `put` to mark one granule.
#[inline(always)]
fn put_all(runs: &[Run], levels: u32, mut put: impl FnMut(u64) -> Option<()>) -> &[Run] {
    let mut rest = runs;
    while let Some((run, after)) = rest.split_first() {
        if !run.is_one_below(span_shift(levels)) || put(run.start()).is_none() {
            break;
        }
        rest = after;
    }
    rest
}

/// Allocates a node of level 2 or higher without children. Returns `None` without memory.
pub(super) fn inner(memory: &mut MemoryLimit) -> Option<KBox<Inner>> {
    let none = pin_init::init_array_from_fn(|_| None);
    memory.allocate(NODE_BYTES, |flags| KBox::init(none, flags))
}

/// Allocates a node of level 1 without children. Returns `None` without memory.
pub(super) fn chunks(memory: &mut MemoryLimit) -> Option<KBox<Chunks>> {
    let none = pin_init::init_array_from_fn(|_| None);
    memory.allocate(NODE_BYTES, |flags| KBox::init(none, flags))
}

/// Adds `chunk`, which contains `granule`, below the node of `level` in `place`. Allocates missing
/// nodes. Without memory, frees the chunk and returns `None`.
pub(super) fn attach(
    place: &mut Option<Node>,
    level: u32,
    granule: u64,
    chunk: Chunk,
    memory: &mut MemoryLimit,
) -> Option<()> {
    match place {
        Some(Node::Inner(children)) => {
            let place = children.get_mut(child(granule, level))?;
            attach(place, level.wrapping_sub(1), granule, chunk, memory)
        }
        Some(Node::Chunks(chunks)) => {
            *chunks.get_mut(child(granule, 1))? = Some(chunk);
            Some(())
        }
        None => {
            *place = Some(around(level, granule, chunk, memory)?);
            Some(())
        }
    }
}

/// Makes a node of `level` that has only `chunk` below it. Without memory, frees the chunk and
/// returns `None`.
pub(super) fn around(
    level: u32,
    granule: u64,
    chunk: Chunk,
    memory: &mut MemoryLimit,
) -> Option<Node> {
    if level <= 1 {
        let Some(mut chunks) = chunks(memory) else {
            chunk.free(memory);
            return None;
        };
        *chunks.get_mut(child(granule, 1))? = Some(chunk);
        return Some(Node::Chunks(chunks));
    }
    let node = around(level.wrapping_sub(1), granule, chunk, memory)?;
    let Some(mut children) = inner(memory) else {
        free(node, memory);
        return None;
    };
    *children.get_mut(child(granule, level))? = Some(node);
    Some(Node::Inner(children))
}

/// Frees a node and everything below it.
pub(super) fn free(node: Node, memory: &mut MemoryLimit) {
    match node {
        Node::Inner(mut children) => children
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|node| free(node, memory)),
        Node::Chunks(mut chunks) => chunks
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|chunk| chunk.free(memory)),
    }
    memory.give(NODE_BYTES);
}

/// Removes `span` from the chunks below a node of `level` that begins at granule `base`. Returns
/// whether the node is empty; then the caller frees it.
pub(super) fn clear_node(
    node: &mut Node,
    level: u32,
    base: u64,
    span: Span,
    memory: &mut MemoryLimit,
) -> bool {
    match node {
        Node::Inner(children) => {
            for index in touched(base, span, level) {
                let (Some(place), Some(part)) = (children.get_mut(index), part(base, index, level))
                else {
                    continue;
                };
                if place.as_mut().is_some_and(|node| {
                    clear_node(node, level.wrapping_sub(1), part.start(), span, memory)
                }) {
                    memory.give(NODE_BYTES);
                    *place = None;
                }
            }
            children.iter().all(Option::is_none)
        }
        Node::Chunks(chunks) => {
            for index in touched(base, span, 1) {
                let (Some(place), Some(part)) = (chunks.get_mut(index), part(base, index, 1))
                else {
                    continue;
                };
                if let (Some(chunk), Some(cut)) = (place.as_mut(), part.intersect(span)) {
                    let (_, lo, hi, _) = split(cut);
                    if cut == part || chunk.clear(lo, hi) {
                        if let Some(chunk) = place.take() {
                            chunk.free(memory);
                        }
                    }
                }
            }
            chunks.iter().all(Option::is_none)
        }
    }
}

/// Returns whether a granule of `span` is dirty below a node of `level` that begins at granule
/// `base`.
pub(super) fn any_in(node: &Node, level: u32, base: u64, span: Span) -> bool {
    touched(base, span, level).any(|index| {
        let Some(part) = part(base, index, level) else {
            return false;
        };
        // Every node has a dirty granule, so a child that lies wholly in `span` is enough.
        let whole = span.contains(part);
        match node {
            Node::Inner(children) => children.get(index).is_some_and(|child| {
                child.as_ref().is_some_and(|child| {
                    whole || any_in(child, level.wrapping_sub(1), part.start(), span)
                })
            }),
            Node::Chunks(chunks) => chunks.get(index).is_some_and(|chunk| {
                chunk.as_ref().is_some_and(|chunk| {
                    whole
                        || part.intersect(span).is_some_and(|cut| {
                            let (_, lo, hi, _) = split(cut);
                            chunk.any(lo, hi)
                        })
                })
            }),
        }
    })
}

/// Passes the dirty granules of `span` below a node of `level` that begins at granule `base` to
/// `merger`, in ascending order.
///
/// # Errors
///
/// Those of [`Chunk::tell`].
pub(super) fn tell_node<F: FnMut(Span) -> Result>(
    node: &Node,
    level: u32,
    base: u64,
    span: Span,
    merger: &mut Merger<F>,
) -> Result {
    for index in touched(base, span, level) {
        let Some(part) = part(base, index, level) else {
            continue;
        };
        match node {
            Node::Inner(children) => {
                if let Some(Some(child)) = children.get(index) {
                    tell_node(child, level.wrapping_sub(1), part.start(), span, merger)?;
                }
            }
            Node::Chunks(chunks) => {
                let (Some(Some(chunk)), Some(cut)) = (chunks.get(index), part.intersect(span))
                else {
                    continue;
                };
                let (_, lo, hi, _) = split(cut);
                chunk.tell(part.start(), lo, hi, merger)?;
            }
        }
    }
    Ok(())
}

/// Returns whether the invariants hold below a node of `level`, and adds the sizes to `bytes`.
#[cfg(CONFIG_KUNIT = "y")]
pub(super) fn check_node(node: &Node, level: u32, bytes: &mut usize) -> bool {
    *bytes += NODE_BYTES;
    match node {
        Node::Inner(children) => {
            level > 1
                && children.iter().any(Option::is_some)
                && children
                    .iter()
                    .flatten()
                    .all(|child| check_node(child, level - 1, bytes))
        }
        Node::Chunks(chunks) => {
            level == 1
                && chunks.iter().any(Option::is_some)
                && chunks.iter().flatten().all(|chunk| {
                    *bytes += chunk.bytes();
                    chunk.is_consistent()
                })
        }
    }
}
