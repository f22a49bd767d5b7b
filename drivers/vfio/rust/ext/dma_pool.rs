// SPDX-License-Identifier: GPL-2.0

//! DMA memory that is freed before its device is unbound.
//!
//! DMA memory is mapped for the device and must be freed while the device is bound, but the objects
//! that use it can live longer. `dma::Coherent` leaves that to its owner. Here a [`Pool`] lists
//! every piece of memory. Closing the pool frees all of it; a [`Slice`] that still exists then
//! returns `ENOTCONN`.

#[cfg(CONFIG_KUNIT = "y")]
mod tests_of_pools;

use kernel::{
    alloc::Flags,
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        UniqueArc, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
};

/// Access of a pool to a piece of memory of any type.
trait Closes: Send + Sync {
    /// Frees the memory.
    fn close(&self);
}

/// All DMA memory of one binding, listed by number.
#[pin_data]
pub(super) struct Pool {
    next: Atomic<u64>,
    /// `None` once closed. The lock is not held while memory is allocated or freed.
    #[pin]
    pieces: Mutex<Option<List>>,
}

/// The pieces whose memory is not freed yet.
struct List {
    tree: RBTree<u64, Arc<dyn Closes>>,
    count: usize,
}

/// The memory of a slice.
#[pin_data]
struct Backing<T: AsBytes + FromBytes> {
    /// `None` once closed.
    #[pin]
    memory: Mutex<Option<Coherent<[T]>>>,
}

impl<T: AsBytes + FromBytes + Send> Closes for Backing<T> {
    fn close(&self) {
        *self.memory.lock() = None;
    }
}

/// Coherent DMA memory for values of type `T`, zeroed when allocated and freed when dropped.
pub(crate) struct Slice<T: AsBytes + FromBytes + Send + 'static> {
    backing: Arc<Backing<T>>,
    home: Arc<Pool>,
    number: u64,
    address: u64,
    len: usize,
}

impl Pool {
    /// Creates an empty pool.
    ///
    /// # Safety
    ///
    /// The caller calls [`Self::close`] before any device for which it allocates is unbound.
    pub(super) unsafe fn new() -> Result<Arc<Self>> {
        let list = List {
            tree: RBTree::new(),
            count: 0,
        };
        Arc::pin_init(
            pin_init!(Self {
                next: Atomic::new(0),
                pieces <- new_mutex!(Some(list), "dma_pool::Pool"),
            }),
            GFP_KERNEL,
        )
    }

    /// Allocates memory for `len` values. Sleeps. The caller keeps `dev` bound until this returns.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` once the pool is closed, `EINVAL` for a length of 0, `ENOMEM`.
    pub(super) fn alloc<T: AsBytes + FromBytes + Send + 'static>(
        self: &Arc<Self>,
        dev: &Device<Bound>,
        len: usize,
        flags: Flags,
    ) -> Result<Slice<T>> {
        // Allocate before the lock is taken.
        let number = self.next.fetch_add(1, Relaxed);
        let memory = Coherent::<T>::zeroed_slice(dev, len, flags)?;
        let address = memory.dma_address();
        let backing = UniqueArc::pin_init(
            pin_init!(Backing {
                memory <- new_mutex!(Some(memory), "dma_pool::Backing"),
            }),
            flags,
        )?;
        let backing: Arc<Backing<T>> = backing.into();
        let node = RBTreeNode::new(number, backing.clone() as Arc<dyn Closes>, flags)?;
        {
            let mut pieces = self.pieces.lock();
            // If the pool is closed, the memory is freed before this returns, while the caller
            // keeps the device bound.
            let list = (*pieces).as_mut().ok_or(ENOTCONN)?;
            // Numbers are unique, so that this replaces no node.
            list.tree.insert(node);
            list.count = list.count.saturating_add(1);
        }
        Ok(Slice {
            backing,
            home: self.clone(),
            number,
            address,
            len,
        })
    }

    /// Returns the number of slices whose memory is not freed.
    pub(super) fn count(&self) -> usize {
        self.pieces.lock().as_ref().map_or(0, |list| list.count)
    }

    /// Frees the memory of all slices and refuses new ones. The device must be bound and must not
    /// use the memory any more.
    pub(super) fn close(&self) {
        let Some(list) = self.pieces.lock().take() else {
            return;
        };
        for (_, piece) in &list.tree {
            piece.close();
        }
    }
}

impl<T: AsBytes + FromBytes + Send + 'static> Slice<T> {
    /// Returns the number of values.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the DMA address of the first value.
    pub(crate) fn dma_address(&self) -> u64 {
        self.address
    }

    /// Runs `f` on the memory. It holds the lock of the memory, for which closing the pool waits,
    /// so `f` must not use this slice again.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` once the pool is closed.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&Coherent<[T]>) -> R) -> Result<R> {
        let memory = self.backing.memory.lock();
        (*memory).as_ref().map(f).ok_or(ENOTCONN)
    }
}

impl<T: AsBytes + FromBytes + Send + 'static> Drop for Slice<T> {
    fn drop(&mut self) {
        // Free the memory first, under its lock, and take it off the list then. So `Pool::close`
        // either finds it on the list and waits for that lock, or the memory is already freed. In
        // both cases it is freed before the device is unbound.
        self.backing.close();
        let mut pieces = self.home.pieces.lock();
        let node = (*pieces).as_mut().and_then(|list| {
            let node = list.tree.remove_node(&self.number)?;
            list.count = list.count.saturating_sub(1);
            Some(node)
        });
        drop(pieces);
        drop(node);
    }
}
