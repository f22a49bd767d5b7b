// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The function behind its BARs.

use dlr_core::FnState;
use dlr_pci::{PciFunction, ResetKind};

use super::NetFunction;
use crate::regs::BAR;

impl PciFunction for NetFunction {
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if bar == BAR {
            let mut gated = self.shared.gate.lock();
            let frozen = gated.state == FnState::Stopped;
            gated.device.read(offset, data, frozen);
        }
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        if bar != BAR {
            return;
        }
        let mut gated = self.shared.gate.lock();
        if gated.state == FnState::Stopped {
            return;
        }
        let effect = gated.device.write(offset, data);
        drop(gated);
        if effect.kick {
            self.bell.ring();
        }
        if effect.reset {
            self.shared.events.reconfigured();
        }
    }

    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let window = self.shared.gate.lock().device.window;
        window.config_read(self.shared.window_cap, offset, data, |access| {
            let mut value = [0; 4];
            self.bar_read(access.bar, access.offset, &mut value[..access.length]);
            value
        });
    }

    fn config_write(&self, offset: u16, data: &[u8]) {
        let mut gated = self.shared.gate.lock();
        if gated.state == FnState::Stopped {
            return;
        }
        let window = &mut gated.device.window;
        let access = window.config_write(self.shared.window_cap, offset, data);
        drop(gated);
        if let Some(access) = access {
            self.bar_write(access.bar, access.offset, &data[..access.length]);
        }
    }

    fn reset(&self, _kind: ResetKind) {
        let shared = &self.shared;
        let mut gated = shared.gate.lock();
        // No driver, no more frames: those in flight end.
        gated.device.clear();
        while gated.in_flight != 0 {
            shared.idle.wait(&mut gated);
        }
        // The gate was open: a load may have come in. From here on it is refused, because the
        // state changes and the management function hears of the reset in one hold of the gate.
        (gated.loaded, gated.moved) = (false, false);
        gated.rounds = None;
        gated
            .device
            .power_on(shared.addresses.reset(shared.index.into()));
        shared.set_state(&mut gated, FnState::Running);
        shared.events.function_reset();
    }

    fn bus_master(&self, enabled: bool) {
        let mut gated = self.shared.gate.lock();
        gated.device.master = enabled;
        gated.device.announce_config();
        drop(gated);
        self.bell.ring();
    }
}
