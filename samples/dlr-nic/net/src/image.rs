// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The function's state as bytes: all registers, queues and the receive mode.
//!
//! One structure of fixed size with a checksum, so that every field of an image is either
//! verified or not there. What belongs to the place and not to the guest stays behind: the cable,
//! counters, bus mastering, the eventfds of interrupts.

mod layout;

use dlr_core::LoadError;
use virtio_queue::QueueT;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use self::layout::*;
use crate::{device::Device, filter::Filter, regs::*, ring::NetQueue, window::Window};

impl NetQueue {
    fn save(&self) -> QueueImage {
        QueueImage {
            desc: self.desc.into(),
            avail: self.avail.into(),
            used: self.used.into(),
            size: self.size.into(),
            vector: self.vector.into(),
            enabled: u16::from(self.enabled()).into(),
            next_avail: self.ring.as_ref().map_or(0, |r| r.next_avail()).into(),
            next_used: self.ring.as_ref().map_or(0, |r| r.next_used()).into(),
            signalled: self.signalled.into(),
            reserved: 0.into(),
        }
    }

    fn load(image: &QueueImage, largest: u16, event_idx: bool) -> Result<Self, LoadError> {
        let size = image.size.get();
        check(size.is_power_of_two(), "size of a queue")?;
        if size > largest {
            return Err(LoadError::Incompatible(format!(
                "a queue of {size} entries, this function offers at most {largest}"
            )));
        }
        check(vector_ok(image.vector.get()), "vector of a queue")?;
        check(image.reserved.get() == 0, "reserved bits")?;
        let mut queue = Self {
            desc: image.desc.get(),
            avail: image.avail.get(),
            used: image.used.get(),
            size,
            vector: image.vector.get(),
            ring: None,
            signalled: image.signalled.get(),
            quiet: false,
        };
        match image.enabled.get() {
            0 => check(
                image.next_avail.get() == 0 && image.next_used.get() == 0,
                "indices of a queue that is not enabled",
            )?,
            1 => {
                let mut ring = queue
                    .build(event_idx)
                    .map_err(|_| corrupt("addresses of a queue"))?;
                ring.set_next_avail(image.next_avail.get());
                ring.set_next_used(image.next_used.get());
                queue.ring = Some(ring);
            }
            _ => return Err(corrupt("enable register of a queue")),
        }
        // Buffers in the device's hands: it returns them before it stops.
        let outstanding = image.next_avail.get().wrapping_sub(image.next_used.get());
        check(outstanding <= size, "indices of a queue")?;
        Ok(queue)
    }
}

impl Device {
    /// The state as bytes.
    pub(crate) fn save(&self) -> Vec<u8> {
        let filter = &self.filter;
        let mode = [
            (filter.promiscuous, PROMISCUOUS),
            (filter.all_multicast, ALL_MULTICAST),
            (filter.unicast_overflow, UNICAST_OVERFLOW),
            (filter.multicast_overflow, MULTICAST_OVERFLOW),
        ];
        let mut base = Base {
            magic: MAGIC,
            version: VERSION.into(),
            queue_count: (QUEUES as u16).into(),
            size: (size_of::<Image>() as u32).into(),
            driver_features: self.driver_features.into(),
            device_feature_select: self.device_feature_select.into(),
            driver_feature_select: self.driver_feature_select.into(),
            status: self.status,
            generation: self.generation,
            isr: self.isr,
            mode: mode.iter().filter(|m| m.0).fold(0, |all, m| all | m.1),
            config_vector: self.config_vector.into(),
            queue_select: self.queue_select.into(),
            mac: self.mac,
            reserved: [0; 2],
            queues: [QueueImage::new_zeroed(); QUEUES],
            unicast_count: (filter.unicast.len() as u16).into(),
            multicast_count: (filter.multicast.len() as u16).into(),
            unicast: table(&filter.unicast),
            multicast: table(&filter.multicast),
        };
        for (to, queue) in base.queues.iter_mut().zip(&self.queues) {
            *to = queue.save();
        }
        let more = More {
            permanent: self.permanent,
            link: self.link.into(),
            window_bar: self.window.bar,
            guest_offloads: self.guest_offloads.into(),
            window_offset: self.window.offset.into(),
            window_length: self.window.length.into(),
            reserved: [0; 8],
        };
        let mut bytes = [base.as_bytes(), more.as_bytes()].concat();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Verifies `bytes` as a whole, then takes the state.
    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let (head, _) = bytes
            .split_at_checked(8)
            .ok_or_else(|| corrupt("shorter than its header"))?;
        check(head[..4] == MAGIC, "not an image of this device")?;
        let version = u16::from_le_bytes([head[4], head[5]]);
        if !(OLDEST..=VERSION).contains(&version) {
            return Err(LoadError::Incompatible(format!(
                "version {version} of the network state, this takes {OLDEST} to {VERSION}"
            )));
        }
        let body = checked(bytes)?;
        let (image, rest) = Base::read_from_prefix(body).map_err(|_| corrupt("length"))?;
        let more = match version {
            OLDEST if rest.is_empty() => None,
            OLDEST => return Err(corrupt("length")),
            _ => Some(More::read_from_bytes(rest).map_err(|_| corrupt("length"))?),
        };
        check(
            image.size.get() as usize == bytes.len()
                && usize::from(image.queue_count.get()) == QUEUES,
            "layout",
        )?;
        check(image.reserved == [0; 2], "reserved bits")?;
        let features = image.driver_features.get();
        let usable = features_usable(features) && features & !offered(version) == 0;
        if image.status & STATUS_FEATURES_OK != 0 && !usable {
            return Err(LoadError::Incompatible(format!(
                "features {features:#x} are not all offered here"
            )));
        }
        let started = image.status & STATUS_DRIVER_OK != 0;
        check(
            image.status & !(STATUS_OF_DRIVER | STATUS_NEEDS_RESET) == 0
                && (!started || image.status & STATUS_FEATURES_OK != 0),
            "device status",
        )?;
        check(vector_ok(image.config_vector.get()), "vector")?;
        check(image.isr & !(ISR_QUEUE | ISR_CONFIG) == 0, "ISR")?;
        check(image.mode >> 4 == 0, "receive mode")?;
        if let Some(more) = &more {
            let own = more.permanent[0] & 1 == 0 && more.permanent != [0; 6];
            check(own, "permanent address")?;
            check(more.link <= 1 && more.reserved == [0; 8], "reserved bits")?;
            let offloads = more.guest_offloads.get();
            check(offloads & !(features & GUEST_OFFLOADS) == 0, "offloads")?;
        }
        let event_idx = features & F_EVENT_IDX != 0;
        let largest = self.queue_size.entries();
        let mut queues = std::array::from_fn(|_| NetQueue::new(largest));
        for (queue, from) in queues.iter_mut().zip(&image.queues) {
            *queue = NetQueue::load(from, largest, event_idx)?;
        }
        let mode = |bit| image.mode & bit != 0;
        let filter = Filter {
            promiscuous: mode(PROMISCUOUS),
            all_multicast: mode(ALL_MULTICAST),
            unicast_overflow: mode(UNICAST_OVERFLOW),
            multicast_overflow: mode(MULTICAST_OVERFLOW),
            unicast: untable(image.unicast_count, &image.unicast)?,
            multicast: untable(image.multicast_count, &image.multicast)?,
        };
        self.driver_features = features;
        self.device_feature_select = image.device_feature_select.get();
        self.driver_feature_select = image.driver_feature_select.get();
        self.status = image.status;
        self.generation = image.generation;
        self.isr = image.isr;
        self.config_vector = image.config_vector.get();
        self.queue_select = image.queue_select.get();
        self.mac = image.mac;
        self.queues = queues;
        self.filter = filter;
        match more {
            Some(more) => {
                self.permanent = more.permanent;
                self.link = more.link == 1;
                self.guest_offloads = more.guest_offloads.get();
                self.window = Window {
                    bar: more.window_bar,
                    offset: more.window_offset.get(),
                    length: more.window_length.get(),
                };
            }
            // An old image does not say these. The function keeps its permanent address, and the
            // link of this place may differ from what the guest saw last.
            None => {
                self.link = self.cable;
                self.configuration_changed();
                self.guest_offloads = match self.status & STATUS_FEATURES_OK {
                    0 => 0,
                    _ => features & GUEST_OFFLOADS,
                };
                self.window = Window::default();
            }
        }
        // An interrupt that was raised just before may not have made it to the guest's new place.
        self.config_owed = true;
        Ok(())
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
