// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Where `vm-memory` reports writes.

use std::{fmt, sync::Arc};

use dlr_core::DirtySink;
use vm_memory::bitmap::{Bitmap, BitmapSlice, NewBitmap, WithBitmapSlice};

/// A "bitmap" that hands each write over to a [`DirtySink`] instead of keeping bits.
#[derive(Clone, Default)]
pub struct DirtyHook(Option<Arc<dyn DirtySink>>);

impl DirtyHook {
    /// Reports to `sink`, or to nobody.
    pub fn new(sink: Option<Arc<dyn DirtySink>>) -> Self {
        Self(sink)
    }
}

impl fmt::Debug for DirtyHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirtyHook(logged: {})", self.0.is_some())
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyHook {
    type S = DirtyRef<'a>;
}

impl Bitmap for DirtyHook {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.slice_at(0).mark_dirty(offset, len);
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> DirtyRef<'_> {
        DirtyRef {
            sink: self.0.as_deref(),
            base: offset as u64,
        }
    }
}

impl NewBitmap for DirtyHook {
    /// The mappings themselves report nothing: a write is reported by its IOVA.
    fn with_len(_len: usize) -> Self {
        Self(None)
    }
}

/// [`DirtyHook`] from one IOVA on.
#[derive(Clone, Copy)]
pub struct DirtyRef<'a> {
    sink: Option<&'a dyn DirtySink>,
    base: u64,
}

impl fmt::Debug for DirtyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirtyRef({:#x})", self.base)
    }
}

impl WithBitmapSlice<'_> for DirtyRef<'_> {
    type S = Self;
}

impl BitmapSlice for DirtyRef<'_> {}

impl Bitmap for DirtyRef<'_> {
    /// `vm-memory` calls this after the bytes have been written.
    fn mark_dirty(&self, offset: usize, len: usize) {
        if let (Some(sink), true) = (self.sink, len != 0) {
            sink.dirty(self.base.wrapping_add(offset as u64), len as u64);
        }
    }

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self {
            sink: self.sink,
            base: self.base.wrapping_add(offset as u64),
        }
    }
}
