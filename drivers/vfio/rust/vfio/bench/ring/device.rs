// SPDX-License-Identifier: GPL-2.0

//! A device that has posted all its entries.

use crate::{
    ext::bench::DmaDevice,
    vfio::{
        dirty::{
            ring::{
                device::{
                    Config,
                    LogDevice,
                    RingLimits,
                    SyncScope, //
                },
                format::{
                    Entry,
                    Format, //
                },
                memory::{
                    LogRing,
                    Until, //
                },
                piece::{
                    Flow,
                    Piece, //
                },
            },
            tracker::{
                Limits,
                Notify, //
            },
        },
        iova_bitmap::IovaRange,
    },
};
use core::cell::{
    Cell,
    RefCell, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Log2 of the number of entries of the largest ring: 4 MiB, the largest block of the page
/// allocator.
const MAX_ORDER: u32 = 19;

/// The device. Its log may be longer than one ring, so it has several, which are drained one after
/// the other.
pub(super) struct Stub<F: Format> {
    rings: RefCell<KVec<LogRing<F>>>,
    posted: KVec<u32>,
    current: Cell<usize>,
    /// Cookie of the SYNC whose marker comes next.
    marker: Cell<Option<u64>>,
}

impl<F: Format> Stub<F> {
    /// Creates a log of `count` entries, which `entry` returns.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(
        device: &DmaDevice,
        count: usize,
        entry: impl FnMut(usize) -> Entry,
    ) -> Result<Self> {
        let mut entries = (0..count).map(entry);
        let mut rings = KVec::new();
        let mut posted = KVec::new();
        let mut left = count;
        while left != 0 {
            let size = left.next_power_of_two().clamp(1 << 4, 1 << MAX_ORDER);
            let (ring, done) = LogRing::filled(device, size.trailing_zeros(), &mut entries)?;
            left = left.saturating_sub(done as usize);
            rings.push(ring, GFP_KERNEL)?;
            posted.push(done, GFP_KERNEL)?;
        }
        Ok(Self {
            rings: RefCell::new(rings),
            posted,
            current: Cell::new(0),
            marker: Cell::new(None),
        })
    }

    /// Makes all entries unconsumed again.
    pub(super) fn rewind(&self) {
        self.rings.borrow_mut().iter_mut().for_each(LogRing::rewind);
        self.current.set(0);
    }

    /// Returns the number of rings.
    pub(super) fn len(&self) -> usize {
        self.posted.len()
    }

    /// Makes ring `index` the one that is drained.
    pub(super) fn choose(&self, index: usize) {
        self.current.set(index);
    }

    /// Calls `f` with each ring and the number of its entries.
    pub(super) fn with_words(&self, mut f: impl FnMut(&LogRing<F>, usize)) {
        for (ring, posted) in self.rings.borrow().iter().zip(&self.posted) {
            f(ring, *posted as usize);
        }
    }

    /// Drains ring `index` without marking.
    pub(super) fn drain_only(
        &self,
        index: usize,
        sink: impl FnMut(Piece<'_>) -> Flow,
    ) -> Result<u32> {
        self.choose(index);
        let posted = self.posted()?;
        self.drain_of(Until::Count(posted), sink)
    }

    fn drain_of(&self, until: Until, sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        let mut rings = self.rings.borrow_mut();
        let ring = rings.get_mut(self.current.get()).ok_or(EINVAL)?;
        let bell = Cell::new(0);
        let drained = ring.drain(until, sink, |head| bell.set(head))?;
        core::hint::black_box(bell.get());
        Ok(drained.entries)
    }
}

impl<F: Format> LogDevice for &Stub<F> {
    type Ticket = ();

    const COOKIE_BITS: u32 = 52;

    fn limits(&self) -> Result<RingLimits> {
        Ok(RingLimits {
            log: Limits {
                page_shift_min: 12,
                page_shift_max: 12,
                max_ranges: 256,
                iova_bits: 52,
            },
            order_min: 4,
            order_max: MAX_ORDER,
        })
    }

    fn start(&self, config: &Config<'_>, _notify: Option<Arc<dyn Notify>>) -> Result {
        core::hint::black_box(config.ranges);
        Ok(())
    }

    fn stop(&self) -> Result {
        Ok(())
    }

    fn settle(&self) -> Result {
        Ok(())
    }

    fn posted(&self) -> Result<u32> {
        Ok(self.posted.get(self.current.get()).copied().unwrap_or(0))
    }

    fn drain(&self, until: Until, mut sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        match self.marker.take() {
            Some(cookie) => {
                sink(Piece::Sync { cookie });
                Ok(1)
            }
            None => self.drain_of(until, sink),
        }
    }

    fn add(&self, _range: IovaRange) -> Result {
        Ok(())
    }

    fn sync_submit(&self, _scope: SyncScope, cookie: u64) -> Result<()> {
        self.marker.set(Some(cookie));
        Ok(())
    }

    fn sync_wait(&self, _ticket: &()) -> Result<bool> {
        Ok(true)
    }

    fn sync_found(&self, _ticket: ()) -> u32 {
        0
    }
}
