// SPDX-License-Identifier: GPL-2.0

//! The line of commands that wait for a slot. This is a data structure only, without a lock.

use kernel::{
    alloc::{
        kvec::InsertError,
        Flags, //
    },
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
};

/// Commands that wait for a slot: first those that are submitted again, then the others in the
/// order of arrival.
pub(crate) struct Line<T> {
    again: KVec<(u64, T)>,
    waiting: RBTree<u64, T>,
    next: u64,
}

/// Memory for one place in the line, so that [`Line::join`] does not allocate.
pub(crate) struct Place<T>(RBTreeNodeReservation<u64, T>);

impl<T> Place<T> {
    /// Allocates the memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(crate) fn new(flags: Flags) -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(flags)?))
    }
}

impl<T> Line<T> {
    /// Creates an empty line with room for `again` commands that are submitted again.
    pub(crate) fn new(again: usize) -> Result<Self> {
        Ok(Self {
            again: KVec::with_capacity(again, GFP_KERNEL)?,
            waiting: RBTree::new(),
            next: 0,
        })
    }

    /// Returns whether the line is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.waiting.is_empty()
    }

    /// Adds `value` at the end of the line. Returns its turn, for [`Self::leave`].
    pub(crate) fn join(&mut self, place: Place<T>, value: T) -> u64 {
        let turn = self.next;
        // A 64-bit count does not wrap while a machine runs.
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(place.0.into_node(turn, value));
        turn
    }

    /// Removes the value with this turn. Returns `None` if it was taken before.
    pub(crate) fn leave(&mut self, turn: u64) -> Option<T> {
        self.waiting.remove(&turn)
    }

    /// Adds `value` before all that joined, and sorted by `order` among those that were added like
    /// this.
    ///
    /// # Errors
    ///
    /// Gives `value` back if there is no room for more.
    pub(crate) fn again(&mut self, order: u64, value: T) -> Result<(), T> {
        let before = self.again.iter().position(|(other, _)| *other > order);
        let at = before.unwrap_or(self.again.len());
        self.again
            .insert_within_capacity(at, (order, value))
            .map_err(|error| match error {
                InsertError::IndexOutOfBounds((_, value))
                | InsertError::OutOfCapacity((_, value)) => value,
            })
    }

    /// Takes the first value that [`Self::again`] has added.
    pub(crate) fn take_again(&mut self) -> Option<T> {
        Some(self.again.remove(0).ok()?.1)
    }

    /// Takes the first value that `fits`. Values before it keep their places.
    pub(crate) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        if let Some(at) = self.again.iter().position(|(_, value)| fits(value)) {
            return Some(self.again.remove(at).ok()?.1);
        }
        let turn = self.waiting.iter().find(|(_, value)| fits(value));
        let turn = turn.map(|(turn, _)| *turn)?;
        self.waiting.remove(&turn)
    }

    /// Calls `f` for each value, in order.
    pub(crate) fn each(&self, mut f: impl FnMut(&T)) {
        self.again.iter().for_each(|(_, value)| f(value));
        self.waiting.values().for_each(f);
    }

    /// Returns whether `like` is true for a value.
    pub(crate) fn any(&self, like: impl Fn(&T) -> bool) -> bool {
        self.again.iter().any(|(_, value)| like(value)) || self.waiting.values().any(like)
    }
}

#[kunit_tests(ext_cmdq_line)]
mod tests {
    use super::*;

    fn join(line: &mut Line<u32>, value: u32) -> Result<u64> {
        Ok(line.join(Place::new(GFP_KERNEL)?, value))
    }

    #[test]
    fn first_come_first_served() -> Result {
        let mut line = Line::new(2)?;
        for value in [10, 21, 12, 23] {
            join(&mut line, value)?;
        }
        // Values that do not fit keep their places.
        assert_eq!(line.take(|v| v % 2 == 1), Some(21));
        assert_eq!(line.take(|_| true), Some(10));
        assert_eq!(line.take(|_| false), None);
        join(&mut line, 4)?;
        assert_eq!(line.take(|_| true), Some(12));
        assert_eq!(line.take(|v| v % 2 == 0), Some(4));
        assert_eq!(line.take(|_| true), Some(23));
        assert!(line.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_given_again_goes_first() -> Result {
        let mut line = Line::new(3)?;
        join(&mut line, 1)?;
        for value in [3, 2, 5] {
            assert_eq!(line.again(value.into(), value), Ok(()));
        }
        assert!(line.any(|v| *v == 3) && line.any(|v| *v == 1) && !line.any(|v| *v == 4));
        let mut all = 0;
        line.each(|v| all = all * 10 + v);
        assert_eq!(all, 2351);
        assert_eq!(line.again(0, 9), Err(9));
        assert_eq!(line.take_again(), Some(2));
        for want in [3, 5, 1] {
            assert_eq!(line.take(|_| true), Some(want));
        }
        assert_eq!(line.take_again(), None);
        Ok(())
    }

    #[test]
    fn leaving_is_not_being_served() -> Result {
        let mut line = Line::new(0)?;
        let first = join(&mut line, 1)?;
        let second = join(&mut line, 2)?;
        assert_eq!(line.take(|_| true), Some(1));
        assert_eq!(line.leave(first), None);
        assert_eq!(line.leave(second), Some(2));
        assert!(line.is_empty());
        Ok(())
    }
}
