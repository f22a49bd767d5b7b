// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The function as management and the wire see it.

use std::sync::atomic::Ordering;

use dlr_core::{DataFunction, Delivery, DmaMemory, FnState, LoadError, SabotageKind, WireRx};

use super::{NetFunction, Shared};
use crate::{announce, filter::Mac, regs::*, sabotage::SMALLEST_BUFFER};

impl DataFunction for NetFunction {
    fn state(&self) -> FnState {
        match self.shared.state.load(Ordering::Acquire) {
            s if s == FnState::Running as u8 => FnState::Running,
            s if s == FnState::RunningP2p as u8 => FnState::RunningP2p,
            _ => FnState::Stopped,
        }
    }

    fn suspend(&self, to: FnState) {
        let mut gated = self.shared.gate.lock();
        if to <= gated.state {
            return;
        }
        let was_running = gated.running();
        gated.rounds = None;
        self.shared.set_state(&mut gated, to);
        if let (true, Some(delay)) = (
            was_running,
            self.shared.sabotage.get(SabotageKind::SuspendEarly),
        ) {
            self.shared.suspend_early(&mut gated, delay);
        }
        // DMA is done: it happens under the gate. Frames on the way to the wire are not.
        while gated.in_flight != 0 {
            self.shared.idle.wait(&mut gated);
        }
    }

    fn resume(&self, to: FnState) {
        let mut gated = self.shared.gate.lock();
        if to >= gated.state {
            return;
        }
        let was_stopped = gated.state == FnState::Stopped;
        self.shared.set_state(&mut gated, to);
        if was_stopped {
            gated.device.show_link();
            let index = self.shared.index.into();
            gated.moved = gated.loaded || self.shared.addresses.resumed(index);
        }
        if !gated.running() {
            return;
        }
        if let Some(at) = self.shared.sabotage.get(SabotageKind::StrayWrite) {
            log::warn!("sabotage: a page of rubbish at {at:#x}");
            // Where nothing is mapped there is nothing to spoil.
            let _ = self.shared.memory.write(at, &[0x5a; 4096]);
        }
        gated.device.announce_config();
        if std::mem::take(&mut gated.loaded) {
            self.shared.addresses.arrived(self.shared.index.into());
        }
        // Without a driver there is no guest to announce: it says itself where it is, later.
        gated.moved &= gated.device.live();
        let announcements = gated.announce();
        // An interrupt that was raised just before the suspension may not have made it to
        // the guest's new place; one too many does no harm.
        if gated.device.live() {
            for queue in 0..QUEUES {
                if gated.device.queues[queue].enabled() {
                    gated.device.queue_interrupt(queue);
                }
            }
        }
        drop(gated);
        for frame in &announcements {
            self.shared.wire.send(frame);
        }
        self.bell.ring();
    }

    fn quiesced(&self, f: &mut dyn FnMut()) {
        let _gate = self.shared.gate.lock();
        f();
    }

    fn room(&self) {
        self.bell.ring();
    }

    fn save(&self) -> Vec<u8> {
        let mut gated = self.shared.gate.lock();
        match self.shared.sabotage.get(SabotageKind::StateStale) {
            Some(n) => gated.device.save_stale(n),
            None => gated.device.save(),
        }
    }

    fn load(&self, state: &[u8]) -> Result<(), LoadError> {
        let mut gated = self.shared.gate.lock();
        // Under the gate: a reset of the function makes it run, and what runs takes no image.
        if gated.state != FnState::Stopped {
            return Err(LoadError::NotStopped);
        }
        gated.device.load(state)?;
        gated.loaded = true;
        self.shared.holds(gated.device.permanent);
        let current = gated.device.mac;
        drop(gated);
        self.shared.wire.claim(current);
        Ok(())
    }

    fn reset(&self) {
        let mut gated = self.shared.gate.lock();
        // A function that was reset by its own means meanwhile is its guest's again.
        if gated.state == FnState::Stopped {
            gated.loaded = false;
            gated
                .device
                .power_on(self.shared.addresses.reset(self.shared.index.into()));
        }
    }

    fn stats_json(&self) -> String {
        let gated = self.shared.gate.lock();
        let device = &gated.device;
        let mut stats = device.stats.json();
        let memory = self.shared.memory.lock();
        let queues: Vec<_> = device.queues.iter().map(|q| q.json(&memory)).collect();
        stats["queues"] = queues.into();
        stats["link"] = device.cable.into();
        stats["mac"] = announce::text(&device.mac).into();
        stats["permanent_mac"] = announce::text(&device.permanent).into();
        stats["state"] = format!("{:?}", gated.state).into();
        stats["device_status"] = device.status.into();
        stats["features"] = format!("{:#x}", device.driver_features).into();
        stats["in_flight"] = gated.in_flight.into();
        stats.to_string()
    }
}

impl WireRx for NetFunction {
    fn deliver(&self, frame: &[u8]) -> Delivery {
        let shared = &self.shared;
        let mut gated = shared.gate.lock();
        if !gated.running() {
            // The wire must know this from a guest that is slow.
            gated.device.stats.rx_no_driver += 1;
            return Delivery::Dropped;
        }
        let sabotaged = shared.sabotage.get(SabotageKind::SuspendEarly).is_some();
        let delivery = {
            let memory = shared.memory.lock();
            if sabotaged && !gated.device.can_spare(&memory, frame) {
                return Delivery::NoBuffer;
            }
            if gated.device.live() && gated.device.wants(frame) {
                let places = (frame.len() / SMALLEST_BUFFER) as u32 + 4;
                if shared.memory.hold_until(places).is_some() {
                    gated.device.stats.rx_held += 1;
                    return Delivery::NoBuffer;
                }
            }
            gated.device.receive(&memory, frame)
        };
        if delivery != Delivery::Accepted {
            return delivery;
        }
        if sabotaged {
            gated.last_frame = frame.to_vec();
        }
        gated.in_flight += 1;
        drop(gated);
        shared.flow.packet(false, frame);
        shared.done();
        delivery
    }
}

impl Shared {
    /// The function holds the address that an image has brought. Says who holds it as well, and
    /// whether the guest will lose it.
    fn holds(&self, mac: Mac) {
        let (index, text) = (self.index, announce::text(&mac));
        let mut runs = false;
        for (other, stopped) in self.addresses.load(index.into(), mac) {
            runs |= !stopped;
            if stopped {
                log::info!("function {index}: {text} comes from function {other}");
            } else {
                log::warn!(
                    "function {index}: {text} was loaded, and function {other} runs with it: \
                     two guests with one address lose their frames"
                );
            }
        }
        if !runs && !self.addresses.survives_reset(index.into()) {
            log::warn!(
                "function {index}: {text} was loaded, and is not assigned here: the guest loses it \
                 at the next reset of the function. Assign it: \
                 {{\"cmd\":\"address\",\"function\":{index},\"mac\":\"{text}\"}}"
            );
        }
    }
}
