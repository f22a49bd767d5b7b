// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the registers of the BAR read as.

use crate::{device::Device, regs::*};

impl Device {
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
}

/// Fills `data` from `offset` of `regs`; zeros beyond the end.
fn copy(regs: &[u8], offset: usize, data: &mut [u8]) {
    for (byte, at) in data.iter_mut().zip(offset..) {
        *byte = regs.get(at).copied().unwrap_or(0);
    }
}
