// SPDX-License-Identifier: GPL-2.0

//! A fake device for tests of the log and its lock.

use super::{
    device::LogDevice,
    Context,
    LogParams,
    Ring,
    RingShared, //
};
use crate::{
    mgmt::{
        Client,
        Flow,
        LogConfig,
        Piece,
        Until, //
    },
    proto::{
        identify::Cap,
        FnInfo,
        Range,
        SyncScope, //
    },
    vfio::{
        dirty::{
            log,
            run::Run, //
        },
        iova_bitmap::{
            DirtySink,
            IovaRange, //
        },
    },
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, SpinLock,
    },
};

pub(super) type Log = log::Log<Ring<Fake>>;

/// A fake device whose ring holds writes to the granules `consumed..posted`, followed by the marker
/// of a SYNC.
#[derive(Clone)]
pub(super) struct Fake(pub(super) Arc<Inner>);

#[pin_data]
pub(super) struct Inner {
    info: FnInfo,
    pub(super) posted: Atomic<u32>,
    pub(super) consumed: Atomic<u32>,
    /// Cookie of a marker to post, plus 1, or 0.
    marker: Atomic<u64>,
    /// The device has no room for another range.
    pub(super) full: Atomic<bool>,
    /// The device posts no marker.
    pub(super) silent: Atomic<bool>,
    /// A log that is poisoned while the device starts.
    #[pin]
    pub(super) victim: SpinLock<Option<Arc<Log>>>,
}

impl Fake {
    pub(super) fn new() -> Result<Self> {
        let info = FnInfo {
            caps: Cap::Log.into(),
            page_shift_min: 12,
            page_shift_max: 12,
            ring_order_min: 4,
            ring_order_max: 4,
            max_ranges: 64,
            iova_bits: 48,
            compat: [0; 16],
            state_version_min: 0,
            state_version: 0,
            max_state_bytes: 0,
        };
        let inner = pin_init!(Inner {
            info,
            posted: Atomic::new(0),
            consumed: Atomic::new(0),
            marker: Atomic::new(0),
            full: Atomic::new(false),
            silent: Atomic::new(false),
            victim <- new_spinlock!(None, "dlr_kunit_victim"),
        });
        Ok(Self(Arc::pin_init(inner, GFP_KERNEL)?))
    }

    pub(super) fn write(&self) {
        self.0.posted.fetch_add(1, Relaxed);
    }

    pub(super) fn waiting(&self) -> u32 {
        self.0.posted.load(Relaxed) - self.0.consumed.load(Relaxed)
    }
}

impl LogDevice for Fake {
    type Ticket = ();

    fn info(&self) -> &FnInfo {
        &self.0.info
    }

    fn set_client(&self, _client: Option<Arc<dyn Client>>) {}

    fn log_start(&self, _config: &LogConfig<'_>) -> Result {
        if let Some(log) = self.0.victim.lock().take() {
            log.poison();
        }
        Ok(())
    }

    fn log_stop(&self) -> Result {
        Ok(())
    }

    fn log_settle(&self) -> Result {
        Ok(())
    }

    fn posted(&self) -> Result<u32> {
        Ok(self.0.posted.load(Relaxed))
    }

    fn drain(&self, _until: Until, mut sink: impl FnMut(Piece<'_>) -> Flow) -> Result<u32> {
        let mut entries = 0;
        while self.waiting() != 0 {
            let granule = self.0.consumed.fetch_add(1, Relaxed);
            entries += 1;
            sink(Piece::Writes(&[Run::one(granule.into())]));
        }
        if let Some(cookie) = self.0.marker.load(Relaxed).checked_sub(1) {
            self.0.marker.store(0, Relaxed);
            entries += 1;
            sink(Piece::Sync { cookie });
        }
        Ok(entries)
    }

    fn log_add(&self, _range: Range) -> Result {
        if self.0.full.load(Relaxed) {
            return Err(ENOSPC);
        }
        Ok(())
    }

    fn sync_submit(&self, _scope: SyncScope, cookie: u64) -> Result {
        if !self.0.silent.load(Relaxed) {
            self.0.marker.store(cookie + 1, Relaxed);
        }
        Ok(())
    }

    fn sync_wait(&self, (): &()) -> Result<bool> {
        Ok(true)
    }

    fn sync_found(&self, (): ()) -> u32 {
        0
    }
}

/// User memory. `during` runs while the report writes to it.
pub(super) struct User<F: FnMut() -> Result> {
    pub(super) bytes: u64,
    pub(super) during: F,
}

impl<F: FnMut() -> Result> DirtySink for User<F> {
    fn set_run(&mut self, _iova: u64, length: u64) -> Result {
        (self.during)()?;
        self.bytes += length;
        Ok(())
    }
}

/// Calls `f` with the context of a call on `fake`.
pub(super) fn with<R>(fake: &Fake, f: impl FnOnce(&Context<'_, Fake>) -> Result<R>) -> Result<R> {
    let find = || Ok(fake.clone());
    let shared = RingShared::new(c"kunit", LogParams { ring_order: 4 })?;
    f(&Context::new(&find, &shared))
}

/// Returns the number of bytes that a report of all memory marks.
pub(super) fn report(log: &Log, fake: &Fake, during: impl FnMut() -> Result) -> Result<u64> {
    let mut user = User { bytes: 0, during };
    let all = IovaRange::new(0, 1 << 30)?;
    with(fake, |cx| log.report(cx, all, &mut user))?;
    Ok(user.bytes)
}

pub(super) fn started(fake: &Fake) -> Result<Arc<Log>> {
    let log = Log::new(0)?;
    start(&log, fake)?;
    Ok(log)
}

pub(super) fn start(log: &Arc<Log>, fake: &Fake) -> Result<u64> {
    let ranges = [IovaRange::new(0, 1 << 30)?];
    with(fake, |cx| log.as_arc_borrow().start(cx, &ranges, 4096))
}

pub(super) fn stop(log: &Log, fake: &Fake) -> Result {
    with(fake, |cx| log.stop(cx))
}
