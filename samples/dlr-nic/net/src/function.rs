// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The function as the other parts of the NIC see it.

#[cfg(test)]
mod address_tests;
mod data;
#[cfg(test)]
mod frozen_tests;
#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod misbehaviour_tests;
mod pci;
#[cfg(test)]
mod sabotage_tests;
#[cfg(test)]
mod state_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod told_tests;
#[cfg(test)]
mod wire_tests;

use std::{
    io,
    sync::{
        atomic::{AtomicU8, Ordering},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_core::{FlowSink, FnState, FunctionEvents, Interrupt, Sabotage, WireTx};
use dlr_pci::DmaSpace;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    addresses::{Addresses, AssignError},
    announce::{self, Rounds},
    device::Device,
    engine::{self, Bell, Work},
    regs::*,
    size::QueueSize,
    window,
};

/// Different places that one batch of queued work may write to: the answers of 16 commands; of the
/// used rings for commands and for sending the index, elements in two pages and what asks for
/// doorbells, each of which may be in a page of its own; and what keeps the driver's doorbells for
/// receive buffers quiet.
const BATCH_PLACES: u32 = 16 + 2 * 4 + 1;

/// What is particular to one data function.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Number of the function in its NIC.
    pub index: u16,
    /// The addresses of all functions of the NIC.
    pub addresses: Arc<Addresses>,
    /// Size of each of its queues until the driver chooses a smaller one.
    pub queue_size: QueueSize,
}

/// A virtio-net data function.
pub struct NetFunction {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

/// What the function's threads share.
pub(crate) struct Shared {
    index: u16,
    /// Offset of the capability `VIRTIO_PCI_CAP_PCI_CFG`.
    window_cap: u16,
    addresses: Arc<Addresses>,
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
    /// A state image was installed, and the function has not run since.
    loaded: bool,
    /// The guest is to be announced when the function runs: the wire last heard it elsewhere.
    moved: bool,
    /// Announcements that are still to be made.
    rounds: Option<Rounds>,
    /// Batches that have left the queues but not yet reached wire and flow table.
    in_flight: u32,
    /// Queued work waits until then for room in the dirty log.
    held: Option<Instant>,
    /// The latest frame, kept for [`dlr_core::SabotageKind::SuspendEarly`] only.
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
        let mac = config.addresses.held(config.index.into());
        let shared = Arc::new(Shared {
            index: config.index,
            window_cap: window::capability(&pci_config(0, 0)).unwrap_or(u16::MAX),
            addresses: config.addresses,
            gate: Mutex::new(Gated {
                device: Device::new(mac, irq, config.queue_size),
                state: FnState::Running,
                loaded: false,
                moved: false,
                rounds: None,
                in_flight: 0,
                held: None,
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

    /// Plugs the cable in or out; the guest is told, or finds out when the function has left
    /// STOPPED.
    pub fn set_link(&self, up: bool) {
        let mut gated = self.shared.gate.lock();
        gated.device.cable = up;
        if gated.state != FnState::Stopped {
            gated.device.show_link();
        }
        let announcements = gated.announce();
        // A suspension waits for them.
        gated.in_flight += 1;
        drop(gated);
        for frame in &announcements {
            self.shared.wire.send(frame);
        }
        self.shared.done();
        self.bell.ring();
    }

    /// Whether the cable is plugged in.
    pub fn cable(&self) -> bool {
        self.shared.gate.lock().device.cable
    }

    /// Assigns an address, as the PF driver of a NIC with SR-IOV does for a VF. The function takes
    /// it at once if no driver uses it, else at its next reset.
    ///
    /// # Errors
    ///
    /// The address is not usable, or another function of the NIC has it.
    pub fn assign_address(&self, mac: [u8; 6]) -> Result<(), AssignError> {
        let mut gated = self.shared.gate.lock();
        let (addresses, index) = (&self.shared.addresses, self.shared.index.into());
        addresses.assign(index, mac)?;
        if gated.running() && gated.device.status == 0 {
            gated.device.power_on(addresses.reset(index));
        }
        Ok(())
    }
}

impl Drop for NetFunction {
    fn drop(&mut self) {
        self.bell.close();
    }
}

impl Gated {
    /// The first announcement of a guest that has moved, as soon as a frame can leave.
    fn announce(&mut self) -> Vec<Vec<u8>> {
        if !(self.moved && self.running() && self.can_send()) {
            return Vec::new();
        }
        self.moved = false;
        self.rounds = Rounds::after_first(Instant::now());
        announce::frames(&self.device)
    }

    /// There is a driver, and a cable.
    fn can_send(&self) -> bool {
        self.device.live() && self.device.link
    }

    /// What is due of the announcements of a guest that has moved.
    fn announce_again(&mut self) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let Some(rounds) = self.rounds.filter(|rounds| rounds.due <= now) else {
            return Vec::new();
        };
        self.rounds = rounds.after_another(now);
        if self.can_send() {
            announce::frames(&self.device)
        } else {
            Vec::new()
        }
    }

    fn running(&self) -> bool {
        self.state == FnState::Running
    }
}

impl Work for Shared {
    /// One batch of each queue. `true` when there may be more.
    fn work(&self) -> bool {
        let mut gated = self.gate.lock();
        if !gated.running() {
            return false;
        }
        let announcements = gated.announce_again();
        gated.held = None;
        let (frames, more) = {
            let memory = self.memory.lock();
            if gated.device.has_queued(&memory) {
                gated.held = self.memory.hold_until(BATCH_PLACES);
            }
            if gated.held.is_some() {
                (Vec::new(), false)
            } else {
                let device = &mut gated.device;
                device.quiet_rx(&memory);
                let again = device.control(&memory);
                let (frames, more) = device.transmit(&memory);
                (frames, more || again)
            }
        };
        if frames.is_empty() && announcements.is_empty() {
            // To those who wait, and not to ourselves again.
            MutexGuard::unlock_fair(gated);
            return more;
        }
        gated.in_flight += 1;
        MutexGuard::unlock_fair(gated);
        for frame in &announcements {
            self.wire.send(frame);
        }
        for frame in &frames {
            self.flow.packet(true, frame);
            self.wire.send(frame);
        }
        self.done();
        more
    }

    /// When there is something to do without a doorbell: queued work that is held back, or another
    /// announcement.
    fn due(&self) -> Option<Instant> {
        let gated = self.gate.lock();
        let announcement = gated.rounds.map(|rounds| rounds.due);
        match (gated.held, announcement) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

impl Shared {
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
        gated.device.running = state == FnState::Running;
        gated.device.irq.hold(state != FnState::Running);
        self.state.store(state as u8, Ordering::Release);
        self.addresses
            .set_stopped(self.index.into(), state == FnState::Stopped);
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
