// SPDX-License-Identifier: GPL-2.0

//! Ids of commands in flight. This is a data structure only, without a lock.

use kernel::prelude::*;

/// A fixed number of slots. An id is the index of a slot and a generation that changes with each
/// use, so that a completion that comes twice or too late matches no command until the generation
/// has wrapped: with 1024 slots after 64 uses of the slot.
pub(crate) struct Slots<T> {
    entries: KVec<Slot<T>>,
    /// Index at which the search for a free slot starts.
    next: usize,
    used: usize,
}

struct Slot<T> {
    generation: u16,
    value: Option<T>,
}

impl<T> Slots<T> {
    /// Creates `1 << order` free slots.
    pub(crate) fn new(order: u32) -> Result<Self> {
        let count = 1usize.checked_shl(order).ok_or(EINVAL)?;
        let mut entries = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            entries.push(
                Slot {
                    generation: 0,
                    value: None,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Self {
            entries,
            next: 0,
            used: 0,
        })
    }

    /// Returns whether [`Self::insert`] would fail.
    pub(crate) fn is_full(&self) -> bool {
        self.used >= self.entries.len()
    }

    /// Returns the number of slots in use.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Stores `value` in a free slot and returns its id, or gives `value` back if there is none.
    pub(crate) fn insert(&mut self, value: T) -> Result<u16, T> {
        let count = self.entries.len();
        if self.is_full() {
            return Err(value);
        }
        for step in 0..count {
            let index = (self.next.wrapping_add(step)) & count.wrapping_sub(1);
            if let Some(slot) = self.entries.get_mut(index) {
                if slot.value.is_none() {
                    slot.generation = slot.generation.wrapping_add(1);
                    slot.value = Some(value);
                    self.next = index.wrapping_add(1);
                    self.used = self.used.saturating_add(1);
                    // CAST: Modulo 2^16.
                    return Ok(slot.generation.wrapping_mul(count as u16) | index as u16);
                }
            }
        }
        Err(value)
    }

    /// Frees the slot of `id` and returns its value, or `None` if no such id is in use.
    pub(crate) fn remove(&mut self, id: u16) -> Option<T> {
        let count = self.entries.len();
        let index = usize::from(id) & count.wrapping_sub(1);
        let slot = self.entries.get_mut(index)?;
        // CAST: Modulo 2^16.
        if id != slot.generation.wrapping_mul(count as u16) | index as u16 {
            return None;
        }
        let value = slot.value.take()?;
        self.used = self.used.saturating_sub(1);
        Some(value)
    }

    /// Frees the slots whose values `drop` chooses, and hands the values to `sink`.
    pub(crate) fn remove_if(&mut self, drop: impl Fn(&T) -> bool, mut sink: impl FnMut(T)) {
        for slot in self.entries.iter_mut() {
            if let Some(value) = slot.value.take_if(|value| drop(value)) {
                self.used = self.used.saturating_sub(1);
                sink(value);
            }
        }
    }

    /// Iterates over the values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|slot| slot.value.as_ref())
    }
}

#[kunit_tests(ext_cmdq_slots)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_frees() -> Result {
        let mut slots = Slots::new(2)?;
        let mut ids = [0; 4];
        for (n, id) in ids.iter_mut().enumerate() {
            *id = slots.insert(n).map_err(|_| EINVAL)?;
        }
        assert!(slots.is_full());
        assert_eq!(slots.insert(9), Err(9));
        assert_eq!(slots.remove(ids[2]), Some(2));
        assert_eq!(slots.used(), 3);
        // The slot is used again, the id is not.
        let id = slots.insert(5).map_err(|_| EINVAL)?;
        assert_eq!(id & 3, ids[2] & 3);
        assert!(id != ids[2]);
        assert_eq!(slots.remove(ids[2]), None);
        assert_eq!(slots.iter().copied().sum::<usize>(), 1 + 3 + 5);
        assert_eq!(slots.remove(id), Some(5));
        assert_eq!(slots.remove(id), None);
        Ok(())
    }

    #[test]
    fn some_are_dropped_together() -> Result {
        let mut slots = Slots::new(2)?;
        let mut ids = [0; 4];
        for (n, id) in ids.iter_mut().enumerate() {
            *id = slots.insert(n).map_err(|_| EINVAL)?;
        }
        let mut dropped = 0;
        slots.remove_if(|n| n % 2 == 1, |n| dropped += n);
        assert_eq!((dropped, slots.used()), (4, 2));
        assert_eq!(slots.remove(ids[1]), None);
        assert_eq!(slots.remove(ids[2]), Some(2));
        // A completion that comes too late matches no command.
        let id = slots.insert(9).map_err(|_| EINVAL)?;
        assert!(!ids.contains(&id));
        Ok(())
    }

    #[test]
    fn strange_ids_hit_nothing() -> Result {
        let mut slots = Slots::new(2)?;
        assert_eq!(slots.remove(0), None);
        let id = slots.insert(1).map_err(|_| EINVAL)?;
        for strange in 0..=u16::MAX {
            if strange != id {
                assert_eq!(slots.remove(strange), None);
            }
        }
        assert_eq!(slots.remove(id), Some(1));
        Ok(())
    }

    #[test]
    fn ids_differ_for_long() -> Result {
        let mut slots = Slots::new(2)?;
        let first = slots.insert(()).map_err(|()| EINVAL)?;
        slots.remove(first);
        for _ in 0..1000 {
            let id = slots.insert(()).map_err(|()| EINVAL)?;
            assert!(id != first);
            slots.remove(id);
        }
        Ok(())
    }
}
