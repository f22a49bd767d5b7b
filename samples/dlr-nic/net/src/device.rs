// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Registers and queues of the function: everything behind the gate.

use std::sync::Arc;

use dlr_core::Interrupt;

use crate::{
    chain::Broken,
    filter::{Filter, Mac},
    regs::*,
    ring::NetQueue,
    stats::Stats,
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
    /// Address the function was made with, back after a reset.
    factory_mac: Mac,
    pub(crate) mac: Mac,
    pub(crate) filter: Filter,
    pub(crate) status: u8,
    pub(crate) device_feature_select: u32,
    pub(crate) driver_feature_select: u32,
    pub(crate) driver_features: u64,
    pub(crate) config_vector: u16,
    pub(crate) generation: u8,
    pub(crate) queue_select: u16,
    pub(crate) isr: u8,
    pub(crate) queues: [NetQueue; QUEUES],
    /// The wire, not the driver, decides about this one; a reset leaves it alone.
    pub(crate) link: bool,
    /// Bus mastering is on: DMA and interrupts are allowed.
    pub(crate) master: bool,
    /// A configuration change happened while no interrupt could be raised.
    pub(crate) config_changed: bool,
    pub(crate) stats: Stats,
    /// Space for one frame.
    pub(crate) scratch: Vec<u8>,
}

impl Device {
    pub(crate) fn new(mac: Mac, irq: Arc<dyn Interrupt>) -> Self {
        Self {
            irq,
            factory_mac: mac,
            mac,
            filter: Filter::default(),
            status: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: NO_VECTOR,
            generation: 0,
            queue_select: 0,
            isr: 0,
            queues: Default::default(),
            link: true,
            master: false,
            config_changed: false,
            stats: Stats::default(),
            scratch: Vec::new(),
        }
    }

    /// Power-on state of all that a driver sees.
    pub(crate) fn reset(&mut self) {
        let fresh = Self::new(self.factory_mac, Arc::clone(&self.irq));
        *self = Self {
            link: self.link,
            master: self.master,
            stats: Stats {
                resets: self.stats.resets + 1,
                ..self.stats
            },
            scratch: std::mem::take(&mut self.scratch),
            ..fresh
        };
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
        log::warn!("queue {queue}: {why}: the driver has to reset the device");
        if why == Broken::Fault {
            self.stats.dma_faults += 1;
        }
        self.stats.needs_reset += 1;
        self.status |= STATUS_NEEDS_RESET;
        self.config_interrupt();
    }

    /// Raises the interrupt of `queue`.
    pub(crate) fn queue_interrupt(&mut self, queue: usize) {
        self.isr |= ISR_QUEUE;
        let vector = self.queues[queue].vector;
        self.raise(vector);
    }

    /// Tells the driver that device status or configuration changed.
    pub(crate) fn config_interrupt(&mut self) {
        if self.status & STATUS_DRIVER_OK == 0 {
            return;
        }
        self.isr |= ISR_CONFIG;
        self.raise(self.config_vector);
    }

    fn raise(&mut self, vector: u16) {
        if vector != NO_VECTOR && self.master {
            self.stats.interrupts += 1;
            self.irq.trigger(vector);
        }
    }

    /// Fills `data` from `offset` of the BAR. `frozen` leaves all state as it is.
    pub(crate) fn read(&mut self, offset: u64, data: &mut [u8], frozen: bool) {
        let (page, at) = (offset & !0xfff, (offset & 0xfff) as usize);
        match page {
            COMMON => copy(&self.common(), at, data),
            DEVICE => copy(&self.config(), at, data),
            ISR if at == 0 => {
                copy(&[self.isr], 0, data);
                if !frozen {
                    self.isr = 0;
                }
            }
            _ => data.fill(0),
        }
    }

    /// `struct virtio_net_config`.
    fn config(&self) -> [u8; DEVICE_LEN] {
        let mut config = [0; DEVICE_LEN];
        config[..6].copy_from_slice(&self.mac);
        let status = if self.link { NET_S_LINK_UP } else { 0 };
        config[6..8].copy_from_slice(&status.to_le_bytes());
        config[8..10].copy_from_slice(&1u16.to_le_bytes());
        config[10..12].copy_from_slice(&1500u16.to_le_bytes());
        config
    }

    /// `struct virtio_pci_common_cfg`.
    fn common(&self) -> [u8; COMMON_LEN] {
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let mut regs = [0; COMMON_LEN];
        let mut put = |at: usize, value: &[u8]| regs[at..at + value.len()].copy_from_slice(value);
        let offered = half(FEATURES, self.device_feature_select);
        let accepted = half(self.driver_features, self.driver_feature_select);
        put(0x00, &self.device_feature_select.to_le_bytes());
        put(0x04, &offered.to_le_bytes());
        put(0x08, &self.driver_feature_select.to_le_bytes());
        put(0x0c, &accepted.to_le_bytes());
        put(0x10, &self.config_vector.to_le_bytes());
        put(0x12, &(QUEUES as u16).to_le_bytes());
        put(0x14, &[self.status, self.generation]);
        put(0x16, &self.queue_select.to_le_bytes());
        // A queue that does not exist has size 0.
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(0x18, &queue.size.to_le_bytes());
            put(0x1a, &queue.vector.to_le_bytes());
            put(0x1c, &u16::from(queue.enabled()).to_le_bytes());
            put(0x1e, &self.queue_select.to_le_bytes());
            put(0x20, &queue.desc.to_le_bytes());
            put(0x28, &queue.avail.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
        }
        regs
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
        let started = new & !self.status & STATUS_DRIVER_OK != 0;
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
        let select = usize::from(self.queue_select);
        let negotiated = self.status & STATUS_FEATURES_OK != 0;
        let Some(queue) = self.queues.get_mut(select) else {
            return;
        };
        match at {
            0x1a => queue.vector = vector,
            0x18 if !queue.enabled() && value.is_power_of_two() && value <= QUEUE_SIZE => {
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

/// Fills `data` from `offset` of `regs`; zeros beyond the end.
fn copy(regs: &[u8], offset: usize, data: &mut [u8]) {
    for (byte, at) in data.iter_mut().zip(offset..) {
        *byte = regs.get(at).copied().unwrap_or(0);
    }
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
