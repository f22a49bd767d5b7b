// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The state of the world, and what needs nothing else.

use std::{collections::VecDeque, sync::Arc};

use dlr_core::{DirtySink, Sabotage};
use parking_lot::Mutex;

use super::{
    event::Event,
    memory::{RingMemory, Vector},
    scenario::{Scenario, PAGES},
};
use crate::{
    nic::{LogEngine, SyncRange},
    proto::{dlr, log::LogWord},
    vfio::dirty::{ring::memory::LogRing, tracker::Notify},
};

/// A SYNC that was given and not executed.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) range: SyncRange,
    pub(super) cookie: u64,
    /// It may be executed while the driver does something else: the first wait for it is over, and
    /// it has not found the ring without room since the driver gave slots back.
    pub(super) may_run: bool,
}

/// What may still happen, and what has begun.
pub(super) struct Device {
    pub(super) left: Scenario,
    pub(super) running: bool,
    /// A REPORT is under way and has read POSTED. One that begins after SUSPEND is the last.
    pub(super) reporting: bool,
    /// Number of pages that are mapped, from the first on.
    pub(super) mapped: u64,
    /// The page of the write that has begun and not ended.
    pub(super) begun: Option<u64>,
    /// The function is in the middle of a step of a write: it takes no other step.
    pub(super) writing: bool,
    /// The page of the write that is held back.
    pub(super) held: Option<u64>,
    /// The log has room again for what is held.
    pub(super) room: bool,
    pub(super) syncs: VecDeque<Given>,
    pub(super) spoilt: bool,
    /// Number of moments so far.
    pub(super) moments: u32,
}

/// Moments after which a run counts as endless.
pub(crate) const ENDLESS: u32 = 1000;

/// The world of a run.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) engine: Arc<LogEngine>,
    pub(super) ring_memory: Arc<RingMemory>,
    pub(super) vector: Arc<Vector>,
    memory: Mutex<[u32; PAGES as usize]>,
    pub(super) device: Mutex<Device>,
    pub(super) ring: Mutex<Option<LogRing<LogWord>>>,
    pub(super) notify: Mutex<Option<Arc<dyn Notify>>>,
    events: Mutex<Vec<Event>>,
}

impl World {
    /// A device before START.
    pub(crate) fn new(scenario: Scenario) -> Arc<Self> {
        let order = dlr::DLR_LOG_RING_MIN_ORDER;
        let ring_memory = RingMemory::new(1 << order);
        let vector = Arc::new(Vector::default());
        let sabotage = Arc::new(Sabotage::default());
        if let Some(kind) = scenario.sabotage {
            sabotage.set(kind, 1);
        }
        let engine = LogEngine::new(
            ring_memory.clone(),
            vector.clone(),
            sabotage,
            Arc::default(),
        );
        Arc::new(Self {
            scenario,
            engine: Arc::new(engine),
            ring_memory,
            vector,
            memory: Mutex::new([0; PAGES as usize]),
            device: Mutex::new(Device {
                left: scenario,
                running: true,
                reporting: false,
                mapped: PAGES,
                begun: None,
                writing: false,
                held: None,
                room: false,
                syncs: VecDeque::new(),
                spoilt: false,
                moments: 0,
            }),
            ring: Mutex::new(None),
            notify: Mutex::new(None),
            events: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn event(&self, event: Event) {
        self.events.lock().push(event);
    }

    /// What has happened so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    pub(crate) fn memory(&self) -> [u32; PAGES as usize] {
        *self.memory.lock()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.device.lock().running
    }

    pub(crate) fn is_spoilt(&self) -> bool {
        self.device.lock().spoilt
    }

    pub(crate) fn is_endless(&self) -> bool {
        self.device.lock().moments > ENDLESS
    }

    /// The data of a write becomes visible and is announced.
    pub(super) fn write(&self, page: u64) {
        let (iova, length) = self.bytes(page);
        for page in iova >> 12..=(iova + length - 1) >> 12 {
            if let Some(count) = self.memory.lock().get_mut(page as usize) {
                *count += 1;
            }
        }
        self.event(Event::Write(page));
        let _purpose = self.scenario.purpose.begin();
        self.engine.dirty(iova, length);
    }

    /// The bytes of a write: not whole pages, as most writes.
    pub(super) fn bytes(&self, page: u64) -> (u64, u64) {
        let offset = if self.scenario.wide { 4088 } else { 8 };
        ((page << 12) + offset, 16)
    }

    /// The write that has begun, if any, ends: the function's gate is free.
    pub(super) fn end_write(&self) {
        let begun = self.device.lock().begun.take();
        if let Some(page) = begun {
            self.write(page);
        }
    }
}
