// SPDX-License-Identifier: GPL-2.0

//! Tests of the start of a log by the callback of VFIO, which gets a tree of ranges.

use super::{
    opened::OpenedDevice,
    tracker::{
        FakeTracker,
        Hw, //
    },
    tracker_tests::LIMITS, //
};
use crate::{
    bindings,
    vfio::{
        dirty::{
            log::Log,
            tracker::{
                Limits,
                Tracker, //
            },
        },
        dma_logging::{
            LoggedWith,
            Ops, //
        },
        id::{
            IdTable,
            NO_DEVICES, //
        },
        pci::{
            OpenDevice,
            Operations, //
        },
        PciFunction, //
    },
};
use kernel::{
    bindings as kbindings,
    prelude::*,
    sync::Arc, //
};

/// A driver of the fake hardware.
struct Logger {
    hw: Arc<Hw>,
    log: Arc<Log<FakeTracker>>,
}

impl Operations for Logger {
    type OpenData = ();
    const ID_TABLE: IdTable = NO_DEVICES;
    const NAME: &'static CStr = c"vfio-kunit";

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        Err::<Self, _>(ENODEV)
    }

    fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }
}

impl LoggedWith for Logger {
    type Tracker = FakeTracker;

    fn log(&self) -> &Arc<Log<FakeTracker>> {
        &self.log
    }

    fn with_context<R>(
        dev: &OpenDevice<'_, Self>,
        f: impl FnOnce(&<FakeTracker as Tracker>::Context<'_>) -> R,
    ) -> R {
        f(&dev.data().hw)
    }
}

/// Starts a log as VFIO does, and returns the page size that is used.
fn start(
    device: &OpenedDevice<Logger>,
    ranges: impl Iterator<Item = (usize, usize)>,
    page_size: u64,
) -> Result<u64> {
    let start = Ops::<Logger>::new().vtable.log_start.ok_or(EINVAL)?;
    let mut root = kbindings::rb_root_cached::default();
    let mut nodes: KVec<KBox<bindings::interval_tree_node>> = KVec::new();
    for (first, last) in ranges {
        let node = bindings::interval_tree_node {
            start: first,
            last,
            ..Default::default()
        };
        nodes.push(KBox::new(node, GFP_KERNEL)?, GFP_KERNEL)?;
    }
    for node in &mut nodes {
        // SAFETY: Only this function uses the tree and the nodes; boxed nodes do not move.
        unsafe { bindings::interval_tree_insert(&raw mut **node, &raw mut root) };
    }
    let mut used = page_size;
    // SAFETY: The device is open, and the tree holds the nodes.
    let ret = unsafe {
        start(
            device.vdev(),
            &raw mut root,
            nodes.len() as u32,
            &raw mut used,
        )
    };
    kernel::error::to_result(ret)?;
    Ok(used)
}

/// Ends the log, as the last close does. A log that is active holds its hardware.
fn stop(device: &OpenedDevice<Logger>) -> Result {
    let stop = Ops::<Logger>::new().vtable.log_stop.ok_or(EINVAL)?;
    // SAFETY: The device is open.
    kernel::error::to_result(unsafe { stop(device.vdev()) })
}

#[kunit_tests(vfio_log_start)]
mod tests {
    use super::*;

    /// Hardware that can track this many ranges and all addresses below 1 TiB.
    fn opened(max_ranges: usize) -> Result<OpenedDevice<Logger>> {
        let hw = Hw::new(Limits {
            max_ranges,
            iova_bits: 40,
            ..LIMITS
        })?;
        let log = Log::new(0)?;
        OpenedDevice::new(Logger { hw, log }, ())
    }

    /// On kernels with large pages VFIO passes more than 256 ranges. Hardware that can track all of
    /// them gets all of them.
    #[test]
    fn ranges_are_not_merged_before_the_log_does_it() -> Result {
        let device = opened(4096)?;
        let ranges = (0..300).map(|i| (i << 20, (i << 20) + 0xfff));
        assert_eq!(start(&device, ranges, 4096), Ok(4096));
        let tracked = device.data().hw.with(|s| s.ranges.len());
        stop(&device)?;
        assert_eq!(tracked, 300);
        Ok(())
    }

    /// Once widened to granules, the two halves of a granule need no range each. So only as many
    /// ranges are merged as the hardware cannot track after that.
    #[test]
    fn ranges_are_widened_before_they_are_merged() -> Result {
        let device = opened(600)?;
        // 299 granules of 64 KiB, each with two pages, and far from each other.
        let ranges = (0..598).map(|i| {
            let first = (i / 2 << 20) + (i % 2) * 0xf000;
            (first, first + 0xfff)
        });
        assert_eq!(start(&device, ranges, 1 << 16), Ok(1 << 16));
        let tracked = device.data().hw.with(|s| s.ranges.len());
        stop(&device)?;
        assert_eq!(tracked, 299);
        Ok(())
    }
}
