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

    fn reset(&self, _kind: ResetKind) {
        let mut gated = self.shared.gate.lock();
        gated.device.reset();
        self.shared.set_state(&mut gated, FnState::Running);
        while gated.in_flight != 0 {
            self.shared.idle.wait(&mut gated);
        }
        drop(gated);
        self.shared.events.function_reset();
    }

    fn bus_master(&self, enabled: bool) {
        let mut gated = self.shared.gate.lock();
        gated.device.master = enabled;
        if enabled {
            gated.announce_config();
        }
        drop(gated);
        self.bell.ring();
    }
}
