// SPDX-License-Identifier: GPL-2.0

//! The log that is measured: the driver's own, on a device that only has a ring.

use super::{
    super::ring::{
        Context,
        LogParams,
        Ring,
        RingShared, //
    },
    device::Stub,
    pages::whole, //
};
use crate::{
    kext::bench::DmaDevice,
    vfio::bench::User,
    vfio::dirty::{
        session::{
            Session,
            Told, //
        },
        stats::LogStats,
        tracker::Tracker, //
    },
    vfio::iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A log on the stub.
pub(super) struct Log<'a> {
    stub: &'a Stub,
    session: Session<Ring<&'a Stub>>,
    shared: Arc<RingShared>,
    stats: LogStats,
}

impl<'a> Log<'a> {
    /// START of `pages` pages from 0.
    pub(super) fn start(bed: &'a Bed, stub: &'a Stub, pages: u64) -> Result<Self> {
        let shared = bed.shared.clone();
        let find = || Ok(stub);
        let session = {
            let cx = Context::new(&find, &shared);
            let limits = Ring::limits(&cx)?;
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

    /// REPORT.
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

    /// Bytes that the bitmap takes.
    pub(super) fn memory(&self) -> usize {
        self.session.snapshot().memory
    }
}

/// What all cases share.
pub(super) struct Bed {
    pub(super) dma: DmaDevice,
    shared: Arc<RingShared>,
}

impl Bed {
    /// Makes the device that DMA memory is allocated for.
    pub(super) fn new() -> Result<Self> {
        let params = LogParams { ring_order: 16 };
        Ok(Self {
            dma: DmaDevice::new(c"dlr-bench")?,
            shared: RingShared::new(c"bench", params)?,
        })
    }
}
