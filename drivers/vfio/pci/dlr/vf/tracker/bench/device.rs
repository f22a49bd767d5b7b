// SPDX-License-Identifier: GPL-2.0

//! A device that only has a log, already written.

use super::super::device::LogDevice;
use crate::{
    kext::bench::DmaDevice,
    mgmt::{
        Client,
        Flow,
        LogConfig,
        Piece,
        Ring,
        Until, //
    },
    proto::{
        identify::Cap,
        Entry,
        FnInfo,
        Range,
        SyncScope, //
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

/// Largest ring: 4 MiB, which the page allocator gives in one piece.
const MAX_ORDER: u32 = 19;

/// The stub. Its log is longer than a ring may be, so it has several, which are drained one after
/// the other.
pub(super) struct Stub {
    info: FnInfo,
    rings: RefCell<KVec<Ring>>,
    posted: KVec<u32>,
    current: Cell<usize>,
    /// Cookie of the SYNC whose marker comes next.
    marker: Cell<Option<u64>>,
}

impl Stub {
    /// A log of `count` entries, made by `entry`.
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
            let (ring, done) = Ring::filled(device, size.trailing_zeros(), &mut entries)?;
            left = left.saturating_sub(done as usize);
            rings.push(ring, GFP_KERNEL)?;
            posted.push(done, GFP_KERNEL)?;
        }
        Ok(Self {
            info: FnInfo {
                caps: Cap::Log.into(),
                page_shift_min: 12,
                page_shift_max: 12,
                ring_order_min: 4,
                ring_order_max: MAX_ORDER,
                max_ranges: 256,
                iova_bits: 52,
                compat: [0; 16],
                state_version_min: 0,
                state_version: 0,
                max_state_bytes: 0,
            },
            rings: RefCell::new(rings),
            posted,
            current: Cell::new(0),
            marker: Cell::new(None),
        })
    }

    /// As if nothing had been consumed.
    pub(super) fn rewind(&self) {
        self.rings.borrow_mut().iter_mut().for_each(Ring::rewind);
        self.current.set(0);
    }

    /// Number of rings.
    pub(super) fn len(&self) -> usize {
        self.posted.len()
    }

    /// From here on the log is ring `index`.
    pub(super) fn choose(&self, index: usize) {
        self.current.set(index);
    }

    /// Its rings, as C reads them; `count` words of each.
    pub(super) fn with_words(&self, mut f: impl FnMut(&Ring, usize)) {
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

impl LogDevice for &Stub {
    type Ticket = ();

    fn info(&self) -> &FnInfo {
        &self.info
    }

    fn set_client(&self, _client: Option<Arc<dyn Client>>) {}

    fn log_start(&self, config: &LogConfig<'_>) -> Result {
        core::hint::black_box(config.ranges);
        Ok(())
    }

    fn log_stop(&self) -> Result {
        Ok(())
    }

    fn log_settle(&self) -> Result {
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

    fn log_add(&self, _range: Range) -> Result {
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
