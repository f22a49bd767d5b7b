// SPDX-License-Identifier: GPL-2.0

//! The log that is measured.

use super::{
    device::Stub,
    pages::whole, //
};
use crate::{
    ext::bench::DmaDevice,
    vfio::{
        bench::User,
        dirty::{
            ring::{
                format::Format,
                tracker::{
                    Context,
                    RingParams,
                    RingShared,
                    RingTracker, //
                },
            },
            session::{
                Session,
                Told, //
            },
            stats::LogStats,
            tracker::Tracker, //
        },
        iova_bitmap::{
            DirtySink,
            IovaRange, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A log on a [`Stub`].
pub(super) struct Log<'a, F: Format> {
    stub: &'a Stub<F>,
    session: Session<RingTracker<&'a Stub<F>>>,
    shared: Arc<RingShared>,
    stats: LogStats,
}

impl<'a, F: Format> Log<'a, F> {
    /// Starts a log of `pages` pages from address 0.
    pub(super) fn start(bed: &'a Bed, stub: &'a Stub<F>, pages: u64) -> Result<Self> {
        let shared = bed.shared.clone();
        let find = || Ok(stub);
        let session = {
            let cx = Context::new(&find, &shared);
            let limits = RingTracker::limits(&cx)?;
            Session::start(&cx, &limits, &[whole(pages)?], 4096, 0, None)?
        };
        Ok(Self {
            stub,
            session,
            shared,
            stats: LogStats::new(),
        })
    }

    /// Drains all rings.
    pub(super) fn drain(&mut self) -> Result {
        for index in 0..self.stub.len() {
            self.stub.choose(index);
            self.session.drain()?;
        }
        Ok(())
    }

    /// Reports `range` to `user`.
    pub(super) fn report(&mut self, range: IovaRange, user: &User) -> Result {
        let told = user.with(range, |report| self.report_to(range, &mut report.sink()))??;
        (told == Told::All).then_some(()).ok_or(EIO)
    }

    pub(super) fn report_to(
        &mut self,
        range: IovaRange,
        sink: &mut impl DirtySink,
    ) -> Result<Told> {
        let stub = self.stub;
        let find = || Ok(stub);
        let cx = Context::new(&find, &self.shared);
        self.session.report(&cx, range, sink, &self.stats)
    }

    /// Returns the memory of the bitmap in bytes.
    pub(super) fn memory(&self) -> usize {
        self.session.snapshot().memory
    }
}

/// State that all cases share.
pub(super) struct Bed {
    pub(super) dma: DmaDevice,
    shared: Arc<RingShared>,
}

impl Bed {
    /// Creates the device for which DMA memory is allocated.
    pub(super) fn new() -> Result<Self> {
        let params = RingParams { order: 16 };
        Ok(Self {
            dma: DmaDevice::new(c"vfio-bench")?,
            shared: RingShared::new(c"bench", params)?,
        })
    }
}
