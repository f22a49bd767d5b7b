// SPDX-License-Identifier: GPL-2.0

//! Fake hardware that logs DMA writes in a plain bitmap, and its tracker.

use crate::vfio::{
    dirty::{
        marks::Dirty,
        tracker::{
            Limits,
            Notify,
            Start,
            Tracker, //
        },
    },
    iova_bitmap::{
        DirtySink,
        IovaRange, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// Number of pages of 4 KiB that the function writes.
pub(super) const PAGES: usize = 128;
const SHIFT: u32 = 12;

/// A call of the tracker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Start,
    Add,
    Collect,
    Drain,
    Stop,
    Settle,
}

/// An event in the middle of a call.
type Event = fn(&Hw);

/// The state of the fake hardware.
pub(super) struct State {
    pub(super) limits: Limits,
    /// Number of the first page that the function can write.
    pub(super) base: u64,
    /// How often each page was written.
    pub(super) memory: [u32; PAGES],
    /// Pages that were written and not collected since.
    logged: [bool; PAGES],
    /// The tracked ranges, each with the first byte and the end.
    pub(super) ranges: KVec<(u64, u64)>,
    pub(super) page_shift: u32,
    pub(super) running: bool,
    /// The calls so far.
    pub(super) calls: KVec<Op>,
    /// The call that fails, and its error.
    pub(super) fail: Option<(Op, Error)>,
    /// The event in the middle of the next such call.
    pub(super) during: Option<(Op, Event)>,
    notify: Option<Arc<dyn Notify>>,
}

/// The fake hardware.
#[pin_data]
pub(super) struct Hw {
    #[pin]
    state: Mutex<State>,
}

impl Hw {
    pub(super) fn new(limits: Limits) -> Result<Arc<Self>> {
        let state = State {
            limits,
            base: 0,
            memory: [0; PAGES],
            logged: [false; PAGES],
            ranges: KVec::new(),
            page_shift: 0,
            running: false,
            calls: KVec::new(),
            fail: None,
            during: None,
            notify: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(state, "vfio_kunit_hw"),
            }),
            GFP_KERNEL,
        )
    }

    /// Reads or changes the state of the hardware.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// Writes to a page, as the function does.
    pub(super) fn write(&self, page: usize) {
        self.with(|s| {
            s.memory[page] += 1;
            let at = (s.base + page as u64) << SHIFT;
            let tracked = s.ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
            s.logged[page] |= s.running && tracked;
        });
    }

    /// Loses the log, as a reset of the function does.
    pub(super) fn forget(&self) {
        self.with(|s| s.logged = [false; PAGES]);
    }

    /// Returns the log to notify of interrupts.
    pub(super) fn notify(&self) -> Option<Arc<dyn Notify>> {
        self.with(|s| s.notify.clone())
    }

    /// Returns the number of calls of `op`.
    pub(super) fn count(&self, op: Op) -> usize {
        self.with(|s| s.calls.iter().filter(|call| **call == op).count())
    }

    fn enter(&self, op: Op) -> Result {
        let during = self.with(|s| -> Result<_> {
            s.calls.push(op, GFP_KERNEL)?;
            let due = s.during.is_some_and(|(at, _)| at == op);
            Ok(if due { s.during.take() } else { None })
        })?;
        if let Some((_, act)) = during {
            act(self);
        }
        self.with(|s| match s.fail {
            Some((at, error)) if at == op => Err(error),
            _ => Ok(()),
        })
    }

    fn mark(&self, dirty: &mut Dirty<'_>) -> Result {
        let take = |s: &mut State| core::mem::replace(&mut s.logged, [false; PAGES]);
        let (base, logged) = self.with(|s| (s.base, take(s)));
        for (page, logged) in (base..).zip(logged) {
            if logged {
                dirty.mark(page << SHIFT, 1 << SHIFT)?;
            }
        }
        Ok(())
    }
}

/// The tracker of the fake hardware.
pub(super) struct FakeTracker(Arc<Hw>);

impl Tracker for FakeTracker {
    type Context<'a> = Arc<Hw>;
    type Snapshot = bool;

    fn limits(cx: &Arc<Hw>) -> Result<Limits> {
        Ok(cx.with(|s| s.limits))
    }

    fn start(cx: &Arc<Hw>, start: &Start<'_>) -> Result<Self> {
        cx.with(|s| -> Result {
            s.notify = start.notify.clone();
            s.page_shift = start.page_shift;
            s.ranges.clear();
            for range in start.ranges {
                s.ranges.push((range.iova(), range.end()), GFP_KERNEL)?;
            }
            Ok(())
        })?;
        let entered = cx.enter(Op::Start);
        cx.with(|s| {
            s.running = entered.is_ok();
            s.logged = [false; PAGES];
        });
        entered?;
        Ok(Self(cx.clone()))
    }

    fn add(&mut self, _cx: &Arc<Hw>, range: IovaRange) -> Result {
        self.0.enter(Op::Add)?;
        self.0.with(|s| {
            s.ranges.push((range.iova(), range.end()), GFP_KERNEL)?;
            Ok(())
        })
    }

    fn collect(&mut self, _cx: &Arc<Hw>, _range: IovaRange, dirty: &mut Dirty<'_>) -> Result {
        self.0.enter(Op::Collect)?;
        self.0.mark(dirty)
    }

    fn drain(&mut self, dirty: &mut Dirty<'_>) -> Result {
        self.0.enter(Op::Drain)?;
        self.0.mark(dirty)
    }

    fn stop(self, cx: &Arc<Hw>) -> Result {
        cx.with(|s| {
            s.running = false;
            s.notify = None;
        });
        cx.enter(Op::Stop)
    }

    fn settle(cx: &Arc<Hw>) -> Result {
        cx.enter(Op::Settle)
    }

    fn snapshot(&self) -> bool {
        self.0.with(|s| s.running)
    }
}

/// A VMM that copies the pages that a report marks within the requested range.
pub(super) struct Vmm<'a> {
    hw: &'a Hw,
    pub(super) copy: [u32; PAGES],
    /// The pages that the last report marked.
    pub(super) told: KVec<u64>,
    asked: (u64, u64),
    /// Number of runs until `set_run` fails, and the error.
    pub(super) room: (u32, Error),
    /// The event while the report writes to user memory.
    pub(super) during: Option<fn(&Hw)>,
}

impl<'a> Vmm<'a> {
    pub(super) fn new(hw: &'a Hw) -> Self {
        Self {
            hw,
            copy: [0; PAGES],
            told: KVec::new(),
            asked: (0, 0),
            room: (u32::MAX, EFAULT),
            during: None,
        }
    }

    /// Prepares a report of this range.
    pub(super) fn ask(&mut self, iova: u64, length: u64) -> Result<IovaRange> {
        self.told.clear();
        self.asked = (iova, iova + length);
        IovaRange::new(iova, length)
    }
}

impl DirtySink for Vmm<'_> {
    fn set_run(&mut self, iova: u64, length: u64) -> Result {
        self.room.0 = self.room.0.checked_sub(1).ok_or(self.room.1)?;
        if let Some(act) = self.during.take() {
            act(self.hw);
        }
        let from = iova.max(self.asked.0) >> SHIFT;
        let to = iova
            .saturating_add(length)
            .min(self.asked.1)
            .div_ceil(1 << SHIFT);
        for page in from..to {
            self.told.push(page, GFP_KERNEL)?;
            if let Some(copy) = self.copy.get_mut(page as usize) {
                *copy = self.hw.with(|s| s.memory[page as usize]);
            }
        }
        Ok(())
    }
}
