// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Registers and queues of the function: everything behind the gate.

use std::sync::Arc;

use dlr_core::Interrupt;

use crate::{
    chain::Broken,
    filter::{Filter, Mac},
    regs::*,
    ring::NetQueue,
    size::QueueSize,
    stats::Stats,
    window::Window,
};

/// What a register access asks the function to do once the gate is open again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The engine has to look at the queues.
    pub(crate) kick: bool,
    /// The driver reset the device.
    pub(crate) reset: bool,
}

/// The device.
pub(crate) struct Device {
    pub(crate) irq: Arc<dyn Interrupt>,
    /// The address that a reset of the driver brings back. It belongs to the guest.
    pub(crate) permanent: Mac,
    pub(crate) mac: Mac,
    pub(crate) filter: Filter,
    /// Receive offloads that are on (`VIRTIO_NET_F_GUEST_*`); all that were negotiated until the
    /// driver says otherwise.
    pub(crate) guest_offloads: u64,
    /// What the capability `VIRTIO_PCI_CAP_PCI_CFG` looks at.
    pub(crate) window: Window,
    pub(crate) status: u8,
    pub(crate) device_feature_select: u32,
    pub(crate) driver_feature_select: u32,
    pub(crate) driver_features: u64,
    pub(crate) config_vector: u16,
    pub(crate) generation: u8,
    pub(crate) queue_select: u16,
    pub(crate) isr: u8,
    pub(crate) queues: [NetQueue; QUEUES],
    /// Size of each queue until the driver chooses a smaller one.
    pub(crate) queue_size: QueueSize,
    /// The cable is plugged in. The wire decides about it, at any time.
    pub(crate) cable: bool,
    /// The link as the driver sees it: the cable, but frozen while the function is stopped.
    pub(crate) link: bool,
    /// The function is RUNNING: DMA and interrupts are allowed as far as it goes.
    pub(crate) running: bool,
    /// Bus mastering is on: DMA and interrupts are allowed.
    pub(crate) master: bool,
    /// A configuration interrupt is due that could not be raised yet.
    pub(crate) config_owed: bool,
    pub(crate) stats: Stats,
    /// Space for one frame.
    pub(crate) scratch: Vec<u8>,
}

impl Device {
    pub(crate) fn new(mac: Mac, irq: Arc<dyn Interrupt>, queue_size: QueueSize) -> Self {
        Self {
            irq,
            permanent: mac,
            mac,
            filter: Filter::power_on(),
            guest_offloads: 0,
            window: Window::default(),
            status: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            generation: 0,
            queue_select: 0,
            isr: 0,
            queues: std::array::from_fn(|_| NetQueue::new(queue_size.entries())),
            queue_size,
            cable: true,
            link: true,
            running: true,
            master: false,
            config_owed: false,
            stats: Stats::default(),
            scratch: Vec::new(),
        }
    }

    /// Power-on state of all that a driver sees. The generation goes on: a driver that compares
    /// it over a reset must not take new content for old.
    pub(crate) fn reset(&mut self) {
        self.stats.resets += 1;
        self.clear();
    }

    /// [`Self::reset`] as a part of a longer one, which counts.
    pub(crate) fn clear(&mut self) {
        let fresh = Self::new(self.permanent, Arc::clone(&self.irq), self.queue_size);
        *self = Self {
            generation: self.generation.wrapping_add(1),
            cable: self.cable,
            link: self.link,
            window: self.window,
            running: self.running,
            master: self.master,
            stats: self.stats,
            scratch: std::mem::take(&mut self.scratch),
            ..fresh
        };
    }

    /// Power-on state of the whole function, with this address.
    pub(crate) fn power_on(&mut self, permanent: Mac) {
        self.permanent = permanent;
        self.link = self.cable;
        self.window = Window::default();
        self.reset();
    }

    /// The driver negotiated `feature`.
    pub(crate) fn has(&self, feature: u64) -> bool {
        self.driver_features & feature != 0
    }

    /// Queues may be worked on: the driver is ready and has not broken anything.
    pub(crate) fn live(&self) -> bool {
        self.master && self.status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET) == STATUS_DRIVER_OK
    }

    /// The driver broke the rules: nothing more happens until it resets the device.
    pub(crate) fn broken(&mut self, queue: usize, why: Broken) {
        if why == Broken::Fault {
            self.stats.dma_faults += 1;
        }
        self.stats.needs_reset += 1;
        let times = self.stats.needs_reset;
        // A guest may do this over and over; the log need not grow with it.
        if times.is_power_of_two() {
            log::warn!(
                "queue {queue}: {why}: the driver has to reset the device ({times} times so far)"
            );
        }
        self.status |= STATUS_NEEDS_RESET;
        self.config_interrupt();
    }

    /// Raises the interrupt of `queue`.
    pub(crate) fn queue_interrupt(&mut self, queue: usize) {
        self.isr |= ISR_QUEUE;
        let vector = self.queues[queue].vector;
        self.raise(vector);
    }

    /// Shows the driver what the cable is like; not while the function is stopped.
    pub(crate) fn show_link(&mut self) {
        if self.link == self.cable {
            return;
        }
        self.link = self.cable;
        self.configuration_changed();
        if self.has(F_STATUS) {
            self.config_interrupt();
        }
    }

    /// The content of the device configuration has changed (virtio 1.3, 4.1.4.3.1: a driver that
    /// reads it afterwards must find another generation).
    pub(crate) fn configuration_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Tells the driver that device status or configuration changed, as soon as it may be told.
    pub(crate) fn config_interrupt(&mut self) {
        if self.status & STATUS_DRIVER_OK != 0 {
            self.config_owed = true;
            self.announce_config();
        }
    }

    /// Raises the configuration interrupt that is due, if the function may raise one: it runs
    /// and has the bus.
    pub(crate) fn announce_config(&mut self) {
        if self.config_owed && self.running && self.master && self.status & STATUS_DRIVER_OK != 0 {
            self.config_owed = false;
            self.isr |= ISR_CONFIG;
            self.raise(self.config_vector);
        }
    }

    fn raise(&mut self, vector: u16) {
        if vector != NO_VECTOR && self.master && self.running {
            self.stats.interrupts += 1;
            self.irq.trigger(vector);
        }
    }

    /// Takes a write to `offset` of the BAR.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Effect {
        let (page, at) = (offset & !0xfff, offset & 0xfff);
        match (page, data) {
            (NOTIFY, _) => {
                self.stats.doorbells += 1;
                return Effect {
                    // Nothing is ever sent because of a doorbell of the receive queue.
                    kick: at / u64::from(NOTIFY_MULTIPLIER) != RX as u64,
                    reset: false,
                };
            }
            (COMMON, [status]) if at == 0x14 => return self.set_status(*status),
            (COMMON, [a, b]) => self.write16(at, u16::from_le_bytes([*a, *b])),
            (COMMON, [a, b, c, d]) => self.write32(at, u32::from_le_bytes([*a, *b, *c, *d])),
            // The driver has CTRL_MAC_ADDR; configuration space is read-only.
            _ => (),
        }
        Effect::default()
    }

    fn set_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            self.reset();
            return Effect {
                kick: false,
                reset: true,
            };
        }
        // Bits are set one after the other and only a reset clears them.
        let mut new = self.status | value & STATUS_OF_DRIVER;
        if new & STATUS_FEATURES_OK != 0
            && self.status & STATUS_FEATURES_OK == 0
            && !features_usable(self.driver_features)
        {
            new &= !STATUS_FEATURES_OK;
        }
        if new & STATUS_FEATURES_OK == 0 {
            new &= !STATUS_DRIVER_OK;
        }
        let fresh = new & !self.status;
        if fresh & STATUS_FEATURES_OK != 0 {
            self.guest_offloads = self.driver_features & GUEST_OFFLOADS;
        }
        let started = fresh & STATUS_DRIVER_OK != 0;
        self.status = new;
        Effect {
            kick: started,
            reset: false,
        }
    }

    fn write16(&mut self, at: u64, value: u16) {
        let vector = if value < VECTORS { value } else { NO_VECTOR };
        match at {
            0x10 => self.config_vector = vector,
            0x16 => self.queue_select = value,
            _ => (),
        }
        let event_idx = self.has(F_EVENT_IDX);
        let largest = self.queue_size.entries();
        let select = usize::from(self.queue_select);
        let negotiated = self.status & STATUS_FEATURES_OK != 0;
        let Some(queue) = self.queues.get_mut(select) else {
            return;
        };
        match at {
            0x1a => queue.vector = vector,
            0x18 if !queue.enabled() && value.is_power_of_two() && value <= largest => {
                queue.size = value;
            }
            0x1c if !queue.enabled() && value == 1 && negotiated => match queue.build(event_idx) {
                Ok(ring) => queue.ring = Some(ring),
                Err(why) => self.broken(select, why),
            },
            _ => (),
        }
    }

    fn write32(&mut self, at: u64, value: u32) {
        match at {
            0x00 => self.device_feature_select = value,
            0x08 => self.driver_feature_select = value,
            0x0c if self.status & STATUS_FEATURES_OK == 0 => {
                let (shift, mask) = match self.driver_feature_select {
                    0 => (0, 0xffff_ffff_0000_0000),
                    1 => (32, 0x0000_0000_ffff_ffff),
                    // Bits that are not offered: refused at FEATURES_OK by nothing being set.
                    _ => return,
                };
                self.driver_features = self.driver_features & mask | u64::from(value) << shift;
            }
            _ => (),
        }
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return;
        };
        if queue.enabled() {
            return;
        }
        let register = match at & !4 {
            0x20 => &mut queue.desc,
            0x28 => &mut queue.avail,
            0x30 => &mut queue.used,
            _ => return,
        };
        *register = if at & 4 == 0 {
            *register & !0xffff_ffff | u64::from(value)
        } else {
            *register & 0xffff_ffff | u64::from(value) << 32
        };
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
