// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::rbtree`.

use std::{collections::BTreeMap, marker::PhantomData};

use super::{alloc::Flags, error::Result};

/// `RBTree`.
pub(crate) struct RBTree<K, V>(BTreeMap<K, V>);

/// `RBTreeNode`.
pub(crate) struct RBTreeNode<K, V>(K, V);

/// `RBTreeNodeReservation`.
pub(crate) struct RBTreeNodeReservation<K, V>(PhantomData<fn() -> (K, V)>);

/// `Cursor`.
pub(crate) struct Cursor<'a, K, V> {
    tree: &'a BTreeMap<K, V>,
    at: (&'a K, &'a V),
}

impl<K: Ord, V> RBTree<K, V> {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>>
    where
        K: Copy,
    {
        let RBTreeNode(key, value) = node;
        let old = self.0.insert(key, value)?;
        Some(RBTreeNode(key, old))
    }

    pub(crate) fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        let (key, value) = self.0.remove_entry(key)?;
        Some(RBTreeNode(key, value))
    }

    pub(crate) fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        let at = self.0.range(key..).next()?;
        Some(Cursor { tree: &self.0, at })
    }

    pub(crate) fn cursor_back(&self) -> Option<Cursor<'_, K, V>> {
        let at = self.0.last_key_value()?;
        Some(Cursor { tree: &self.0, at })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter()
    }
}

impl<'a, K: Ord, V> Cursor<'a, K, V> {
    pub(crate) fn current(&self) -> (&'a K, &'a V) {
        self.at
    }

    pub(crate) fn peek_prev(&self) -> Option<(&'a K, &'a V)> {
        self.tree.range(..self.at.0).next_back()
    }
}

impl<K, V> RBTreeNode<K, V> {
    pub(crate) fn into_reservation(self) -> RBTreeNodeReservation<K, V> {
        RBTreeNodeReservation(PhantomData)
    }

    #[allow(clippy::wrong_self_convention, reason = "the name in the kernel crate")]
    pub(crate) fn to_key_value(self) -> (K, V) {
        (self.0, self.1)
    }
}

impl<K, V> RBTreeNodeReservation<K, V> {
    pub(crate) fn new(_: Flags) -> Result<Self> {
        Ok(Self(PhantomData))
    }

    pub(crate) fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode(key, value)
    }
}
