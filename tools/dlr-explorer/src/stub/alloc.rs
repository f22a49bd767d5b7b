// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::alloc`: memory that is always there.

use std::ops::{Deref, DerefMut};

use super::{error::Result, init::Init};

/// `kernel::alloc::Flags`.
#[derive(Clone, Copy)]
pub(crate) struct Flags;

pub(crate) const GFP_KERNEL: Flags = Flags;

/// `KBox`.
pub(crate) struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    pub(crate) fn init(value: impl Init<T>, _: Flags) -> Result<Self> {
        Ok(Self(Box::new(value.make())))
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for KBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// `KVec`.
pub(crate) struct KVec<T>(Vec<T>);

impl<T> KVec<T> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with_capacity(capacity: usize, _: Flags) -> Result<Self> {
        Ok(Self(Vec::with_capacity(capacity)))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn push(&mut self, value: T, _: Flags) -> Result {
        self.0.push(value);
        Ok(())
    }

    pub(crate) fn reserve(&mut self, more: usize, _: Flags) -> Result {
        self.0.reserve(more);
        Ok(())
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(keep);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub(crate) fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        self.insert_within_capacity(self.0.len(), value)
    }

    pub(crate) fn remove(&mut self, at: usize) -> Result<T, ()> {
        if at >= self.0.len() {
            return Err(());
        }
        Ok(self.0.remove(at))
    }

    pub(crate) fn insert_within_capacity(&mut self, at: usize, value: T) -> Result<(), T> {
        if at > self.0.len() || self.0.len() == self.0.capacity() {
            return Err(value);
        }
        self.0.insert(at, value);
        Ok(())
    }
}

impl<T: Clone> KVec<T> {
    pub(crate) fn extend_from_slice(&mut self, values: &[T], _: Flags) -> Result {
        self.0.extend_from_slice(values);
        Ok(())
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}
