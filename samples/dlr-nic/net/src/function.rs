// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The function as the other parts of the NIC see it.

#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod misbehaviour_tests;
mod pci;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::{
        atomic::{AtomicU8, Ordering},
        Arc,
    },
    thread,
    time::Duration,
};

use dlr_core::{
    DataFunction, Delivery, FlowSink, FnState, FunctionEvents, Interrupt, LoadError, Sabotage,
    SabotageKind, WireRx, WireTx,
};
use dlr_pci::DmaSpace;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    device::Device,
    engine::{self, Bell},
    regs::*,
};

/// What is particular to one data function.
#[derive(Clone, Copy, Debug)]
pub struct NetConfig {
    /// Address of the function after reset.
    pub mac: [u8; 6],
    /// Number of the function in its NIC, for the log.
    pub index: u16,
}

/// A virtio-net data function.
pub struct NetFunction {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

/// What the function's threads share.
pub(crate) struct Shared {
    index: u16,
    gate: Mutex<Gated>,
    /// Copy of `Gated::state` that can be read while the gate is closed.
    state: AtomicU8,
    /// The last frame in flight is done.
    idle: Condvar,
    memory: Arc<DmaSpace>,
    wire: Arc<dyn WireTx>,
    flow: Arc<dyn FlowSink>,
    events: Arc<dyn FunctionEvents>,
    sabotage: Arc<Sabotage>,
}

struct Gated {
    device: Device,
    state: FnState,
    /// Batches that have left the queues but not yet reached wire and flow table.
    in_flight: u32,
    /// The latest frame, kept for [`SabotageKind::SuspendEarly`] only.
    last_frame: Vec<u8>,
}

impl NetFunction {
    /// A function in power-on state, running. `irq` has [`pci_config`]'s number of vectors.
    ///
    /// [`pci_config`]: crate::pci_config
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn new(
        config: NetConfig,
        memory: Arc<DmaSpace>,
        irq: Arc<dyn Interrupt>,
        wire: Arc<dyn WireTx>,
        flow: Arc<dyn FlowSink>,
        events: Arc<dyn FunctionEvents>,
        sabotage: Arc<Sabotage>,
    ) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            index: config.index,
            gate: Mutex::new(Gated {
                device: Device::new(config.mac, irq),
                state: FnState::Running,
                in_flight: 0,
                last_frame: Vec::new(),
            }),
            state: AtomicU8::new(FnState::Running as u8),
            idle: Condvar::new(),
            memory,
            wire,
            flow,
            events,
            sabotage,
        });
        let bell = Arc::new(Bell::default());
        engine::start(
            format!("net:{}", config.index),
            Arc::clone(&bell),
            Arc::downgrade(&shared),
        )?;
        Ok(Arc::new(Self { shared, bell }))
    }

    /// Plugs the cable in or out; the guest is told.
    pub fn set_link(&self, up: bool) {
        let mut gated = self.shared.gate.lock();
        if gated.device.link != up {
            gated.device.link = up;
            gated.device.config_changed = true;
            gated.announce_config();
        }
    }

    /// Whether the cable is plugged in.
    pub fn link(&self) -> bool {
        self.shared.gate.lock().device.link
    }
}

impl Drop for NetFunction {
    fn drop(&mut self) {
        self.bell.close();
    }
}

impl Gated {
    fn running(&self) -> bool {
        self.state == FnState::Running
    }

    /// Raises the interrupt that a configuration change is owed, once it may be raised.
    fn announce_config(&mut self) {
        let device = &mut self.device;
        if device.config_changed && self.state == FnState::Running && device.live() {
            device.config_changed = false;
            device.generation = device.generation.wrapping_add(1);
            if device.has(F_STATUS) {
                device.config_interrupt();
            }
        }
    }
}

impl Shared {
    /// One batch of each queue. `true` when there may be more.
    pub(crate) fn work(&self) -> bool {
        let mut gated = self.gate.lock();
        if !gated.running() {
            return false;
        }
        let (frames, more) = {
            let memory = self.memory.lock();
            let device = &mut gated.device;
            device.quiet_rx(&memory);
            let again = device.control(&memory);
            let (frames, more) = device.transmit(&memory);
            (frames, more || again)
        };
        if frames.is_empty() {
            return more;
        }
        gated.in_flight += 1;
        drop(gated);
        for frame in &frames {
            self.flow.packet(true, frame);
            self.wire.send(frame);
        }
        self.done();
        more
    }

    /// A batch has reached wire and flow table.
    fn done(&self) {
        let mut gated = self.gate.lock();
        gated.in_flight -= 1;
        if gated.in_flight == 0 {
            self.idle.notify_all();
        }
    }

    fn set_state(&self, gated: &mut MutexGuard<'_, Gated>, state: FnState) {
        gated.state = state;
        self.state.store(state as u8, Ordering::Release);
    }

    /// One more receive write is on its way when the suspension is already reported done.
    fn suspend_early(self: &Arc<Self>, gated: &mut Gated, delay: u64) {
        let frame = std::mem::take(&mut gated.last_frame);
        let Some(late) = gated.device.hold_back(&self.memory.lock(), &frame) else {
            log::warn!("sabotage: no receive buffer to suspend too early with");
            return;
        };
        log::warn!("sabotage: a receive write lands {delay} ms after the suspension");
        let this = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name(format!("late:{}", self.index))
            .spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                late.land(&this.memory.lock());
            });
        if let Err(e) = spawned {
            log::error!("sabotage: {e}");
        }
    }
}

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
        self.shared.set_state(&mut gated, to);
        if !gated.running() {
            return;
        }
        gated.announce_config();
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
        self.bell.ring();
    }

    fn quiesced(&self, f: &mut dyn FnMut()) {
        let _gate = self.shared.gate.lock();
        f();
    }

    fn save(&self) -> Vec<u8> {
        self.shared.gate.lock().device.save()
    }

    fn load(&self, state: &[u8]) -> Result<(), LoadError> {
        self.shared.gate.lock().device.load(state)
    }

    fn reset(&self) {
        self.shared.gate.lock().device.reset();
    }

    fn stats_json(&self) -> String {
        let gated = self.shared.gate.lock();
        let device = &gated.device;
        let mut stats = device.stats.json();
        let memory = self.shared.memory.lock();
        let queues: Vec<_> = device.queues.iter().map(|q| q.json(&memory)).collect();
        stats["queues"] = queues.into();
        stats["link"] = device.link.into();
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
        if gated.state != FnState::Running {
            // The wire must know this from a guest that is slow.
            gated.device.stats.rx_no_buffer += 1;
            return Delivery::Dropped;
        }
        if !gated.running() {
            gated.device.stats.rx_no_buffer += 1;
            return Delivery::NoBuffer;
        }
        let sabotaged = shared.sabotage.get(SabotageKind::SuspendEarly).is_some();
        let delivery = {
            let memory = shared.memory.lock();
            if sabotaged && !gated.device.can_spare(&memory, frame) {
                return Delivery::NoBuffer;
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
