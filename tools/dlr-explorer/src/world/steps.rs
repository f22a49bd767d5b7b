// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The steps of the device, and the moments at which it takes them.

use dlr_core::{DataFunction, DirtySink, FnState};

use super::{
    event::Event,
    function::Gate,
    scenario::Scenario,
    state::{World, ENDLESS},
};
use crate::{clock, explore::choose, nic::TestEntry};

/// Entries for which a write asks for room.
const PLACES: u32 = 2;

/// One step of the device, or of the thread of its interrupt.
#[derive(Clone, Copy)]
enum Step {
    /// A write begins and, unless it is split, ends.
    Write(u64),
    /// Many granules are written.
    Burst,
    /// The write that has begun ends.
    End,
    /// The write that was held back asks again.
    Ask,
    /// The time of the write that is held back is up.
    TimeUp,
    /// The SYNC that was given first is executed.
    Sync,
    /// The thread of the interrupt runs.
    Interrupt,
    /// The function is suspended while a REPORT is under way.
    Suspend,
    /// The function is reset.
    Reset,
    /// An entry of an unknown type is posted.
    Spoil,
    /// The management function is lost.
    Lose,
    /// The memory of the ring is taken away.
    Fault,
}

impl World {
    /// The device takes any number of steps, one after the other. The caller holds no lock of the
    /// world but that of the ring.
    pub(super) fn moment(&self) {
        self.take_steps(Self::steps);
    }

    /// As [`Self::moment`], but of the function only, in the middle of a step of the engine.
    pub(super) fn moment_of_writes(&self) {
        self.take_steps(Self::writes);
    }

    fn take_steps(&self, steps: impl Fn(&Self) -> Vec<Step>) {
        {
            let mut device = self.device.lock();
            device.moments += 1;
            if device.moments > ENDLESS {
                return;
            }
        }
        loop {
            let steps = steps(self);
            match choose(1 + steps.len()).checked_sub(1) {
                None => return,
                Some(chosen) => self.step(steps[chosen]),
            }
        }
    }

    /// The steps that are possible now. A suspended function does not write, and all others are
    /// left.
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.writes();
        let device = self.device.lock();
        if device.syncs.front().is_some_and(|given| given.may_run) {
            steps.push(Step::Sync);
        }
        if device.left.interrupts > 0 && self.vector.is_raised() {
            steps.push(Step::Interrupt);
        }
        if device.left.beside && device.running && device.reporting {
            steps.push(Step::Suspend);
        }
        if device.left.resets > 0 {
            steps.push(Step::Reset);
        }
        if device.left.spoils > 0 {
            steps.push(Step::Spoil);
        }
        if device.left.losses > 0 {
            steps.push(Step::Lose);
        }
        if device.left.faults > 0 {
            steps.push(Step::Fault);
        }
        steps
    }

    fn writes(&self) -> Vec<Step> {
        let device = self.device.lock();
        let mut steps = Vec::new();
        if device.writing || !device.running {
            return steps;
        }
        if device.begun.is_some() {
            steps.push(Step::End);
        } else if device.held.is_some() {
            steps.push(Step::TimeUp);
            if device.room {
                steps.push(Step::Ask);
            }
        } else if device.left.writes > 0 {
            let places = self.scenario.places.iter().copied();
            steps.extend(places.filter(|page| *page < device.mapped).map(Step::Write));
        }
        if device.left.burst > 0 && device.begun.is_none() && device.held.is_none() {
            steps.push(Step::Burst);
        }
        steps
    }

    fn step(&self, step: Step) {
        match step {
            Step::Write(page) => {
                self.device.lock().left.writes -= 1;
                self.begin(page);
            }
            Step::Burst => {
                let count = std::mem::take(&mut self.device.lock().left.burst);
                self.event(Event::Burst);
                Scenario::fillers(count).for_each(|page| self.write(page));
            }
            Step::End => self.end_write(),
            Step::Ask => self.ask_again(),
            Step::TimeUp => self.time_up(),
            Step::Sync => {
                self.execute_first();
            }
            Step::Interrupt => {
                self.vector.take();
                self.device.lock().left.interrupts -= 1;
                self.event(Event::Interrupt);
                let notify = self.notify.lock().clone();
                if let Some(notify) = notify {
                    notify.ready();
                }
            }
            Step::Suspend => self.suspend_now(),
            Step::Reset => {
                self.device.lock().left.resets -= 1;
                self.event(Event::Reset);
                self.engine.function_reset();
            }
            Step::Spoil => {
                self.device.lock().left.spoils -= 1;
                self.spoilt_by(Event::Spoilt);
                self.engine.post_test_entry(TestEntry::Garbage);
            }
            Step::Lose => {
                self.device.lock().left.losses -= 1;
                self.spoilt_by(Event::Ended);
                self.engine.stop();
            }
            Step::Fault => {
                self.device.lock().left.faults -= 1;
                self.spoilt_by(Event::Fault);
                self.ring_memory.take_away();
            }
        }
    }

    /// From now on a REPORT may fail.
    fn spoilt_by(&self, event: Event) {
        self.device.lock().spoilt = true;
        self.event(event);
    }

    /// The function begins a write, unless it has to hold it back.
    fn begin(&self, page: u64) {
        if self.scenario.hold && self.engine.hold_until(PLACES).is_some() {
            let mut device = self.device.lock();
            device.held = Some(page);
            device.room = false;
            self.event(Event::Held(page));
            return;
        }
        let (iova, length) = self.bytes(page);
        self.device.lock().writing = true;
        self.engine.before_write(iova, length);
        self.device.lock().writing = false;
        if self.scenario.split {
            self.device.lock().begun = Some(page);
            self.event(Event::WriteBegins(page));
        } else {
            self.write(page);
        }
    }

    fn ask_again(&self) {
        let held = self.device.lock().held.take();
        if let Some(page) = held {
            self.begin(page);
        }
    }

    fn time_up(&self) {
        let Some(until) = self.engine.hold_until(PLACES) else {
            return self.ask_again();
        };
        clock::advance(until.saturating_duration_since(clock::now()));
        self.event(Event::TimeUp);
        self.ask_again();
    }

    /// The pages from `page` on are unmapped. No write to them is in flight or held back.
    pub(crate) fn unmap(&self, page: u64) {
        self.moment();
        self.end_write();
        self.device.lock().mapped = page;
    }

    /// SUSPEND, after steps of the device.
    pub(crate) fn suspend(&self) {
        self.moment();
        self.suspend_now();
    }

    /// SUSPEND: what was begun or held back is carried out (rule 7).
    fn suspend_now(&self) {
        self.end_write();
        if self.device.lock().held.is_some() {
            self.time_up();
            self.end_write();
        }
        self.device.lock().running = false;
        Gate(self).suspend(FnState::Stopped);
        self.engine.flush_at_suspend();
        self.event(Event::Suspended);
    }
}
