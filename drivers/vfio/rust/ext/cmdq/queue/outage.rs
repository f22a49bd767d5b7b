// SPDX-License-Identifier: GPL-2.0

//! Outages: times when the management function is being reset or suspended and no thread may access
//! it. The callbacks that begin and end an outage hold the device lock, so there is one at a time.

use super::{
    super::device::{
        Access,
        Device,
        Guard, //
    },
    Life,
    Queue, //
};
use crate::ext::{
    budget::Budget,
    trust::Pass, //
};
use kernel::prelude::*;

impl<D: Device> Queue<D> {
    /// Begins an access to the hardware.
    ///
    /// # Errors
    ///
    /// `EIO` in an outage, `ENOTCONN` once the management function is gone for good.
    pub(crate) fn enter(&self) -> Result<Guard<'_, D>> {
        self.hw
            .enter()
            .ok_or_else(|| if self.is_down() { ENOTCONN } else { EIO })
    }

    /// Returns whether there is an outage.
    pub(crate) fn is_halted(&self) -> bool {
        self.state.lock().life == Life::Held
    }

    /// Returns a pass for commands. `Err(n)` means that the device was not checked since outage
    /// `n`.
    pub(crate) fn pass(&self) -> Result<Pass, u32> {
        self.state.lock().trust.pass()
    }

    /// Notes that the device comes back from an outage, before the end of the outage.
    pub(super) fn lose_trust(&self) {
        self.state.lock().trust.lose();
    }

    /// Notes that a check has found the same device. `doubt` is the number of the outage that
    /// [`Self::pass`] has returned before the check.
    pub(crate) fn regain_trust(&self, doubt: u32) {
        self.state.lock().trust.regain(doubt);
    }

    /// Begins an outage. Commands that were submitted and waits for room end with `EIO`, other
    /// commands wait for [`Self::revive`] and then need a new pass, and [`Self::enter`] fails.
    /// Waits for the threads that access the hardware. The device keeps the buffers of commands in
    /// flight.
    ///
    /// Returns access to the hardware for the caller alone, or `None` if the queue is down for
    /// good.
    pub(super) fn halt(&self) -> Option<Guard<'_, D>> {
        {
            let mut desk = self.desk.lock();
            {
                let mut state = self.state.lock();
                if state.life == Life::Down {
                    return None;
                }
                desk.halt(&mut state);
            }
            // This also wakes the threads that wait for room.
            self.after_judgement(&mut desk, 0);
        }
        for channel in &self.channels {
            channel.event.signal();
        }
        self.hw.pause()
    }

    /// Ends an outage. Resets the device once more, so that it has forgotten all commands from
    /// before the outage.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the queue is down for good, `EIO` if the device does not follow, `ETIMEDOUT`
    /// if it has not followed within `budget`. After the last two the next commands try again.
    pub(super) fn revive(&self, budget: &Budget) -> Result {
        // No command is submitted before `bring_back` takes the lock of the queue, because the
        // state is `Life::Held` until then.
        self.hw.unpause();
        self.bring_back(budget)
    }
}
