// SPDX-License-Identifier: GPL-2.0

//! What happens when the device does not answer as it should, and the end of the queue.

use super::{
    Life,
    Queue,
    VECTOR, //
};
use crate::{
    mgmt::{
        command::Request,
        hardware,
        ring::{
            Consumer,
            Producer,
            Words, //
        },
        slots::Slots, //
    },
    proto::admin, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Queue {
    /// A command's time is over.
    pub(in crate::mgmt) fn overdue(&self, request: &Arc<Request>) {
        self.take_completions();
        if !request.is_done() {
            self.restart(Some(request));
        }
    }

    /// Gets slots back from commands that nobody waits for and whose time is over.
    pub(super) fn reclaim(&self) {
        let late = {
            let state = self.state.lock();
            let late = state.slots.iter().find(|r| r.remaining() == 0);
            late.cloned()
        };
        if let Some(request) = late {
            self.overdue(&request);
        }
    }

    /// The reset handshake. Fails all commands in flight, `victim` with `ETIMEDOUT`. When the device does
    /// not follow, the queue is down for good.
    pub(super) fn restart(&self, victim: Option<&Arc<Request>>) {
        let _one = self.reset.lock();
        if victim.is_some_and(|request| request.is_done()) {
            // Somebody else did it meanwhile.
            return;
        }
        let Some(hw) = self.hw.enter() else {
            return;
        };
        {
            let mut state = self.state.lock();
            if state.life == Life::Down {
                return;
            }
            state.life = Life::Resetting;
        }
        self.stats.resets.count();
        if let Some(request) = victim {
            self.stats.timeouts.count();
            dev_warn!(
                hw.device(),
                "{} of function {} timed out, resetting the admin queue\n",
                admin::opcode_name(request.command.opcode()),
                request.command.function()
            );
        }
        let fresh = Slots::new(self.limits.order);
        let quiet = hardware::disable_queue(&hw);
        if let (Ok(fresh), Ok(())) = (fresh, quiet) {
            // The device has let go of everything.
            let old = self.take_slots(fresh);
            for request in old.iter() {
                request.give_back();
                let error = match victim {
                    Some(victim) if Arc::ptr_eq(victim, request) => ETIMEDOUT,
                    _ => EIO,
                };
                request.finish(Err(error));
            }
            drop(old);
            for i in 0..hw.data().cq.len() {
                hw.data().cq.set(i, 0);
            }
            if hardware::enable_queue(&hw, VECTOR).is_ok() {
                let mut state = self.state.lock();
                // Not when the function is being unbound.
                if state.life == Life::Resetting {
                    state.life = Life::Up;
                }
                drop(state);
                self.room.signal();
                return;
            }
        }
        dev_err!(hw.device(), "the admin queue cannot be reset, giving up\n");
        // Not held while clients are told: they may call us.
        drop(hw);
        self.go_down(EIO);
    }

    fn take_slots(&self, fresh: Slots<Arc<Request>>) -> Slots<Arc<Request>> {
        let mut state = self.state.lock();
        state.sq = Producer::new(self.limits.order);
        state.cq = Consumer::new(self.limits.order);
        core::mem::replace(&mut state.slots, fresh)
    }

    /// Ends the service: wakes everybody who waits and tells the clients. The buffers of commands in flight
    /// stay the device's until [`Self::free_slots`].
    pub(in crate::mgmt) fn go_down(&self, error: Error) {
        {
            let mut state = self.state.lock();
            state.life = Life::Down;
            for request in state.slots.iter() {
                request.finish(Err(error));
            }
        }
        self.room.signal();
        for channel in &self.channels {
            channel.event.signal();
            if let Some(client) = channel.client() {
                client.lost();
            }
        }
    }

    /// Stops the device's use of the queue, after [`Self::go_down`].
    ///
    /// # Errors
    ///
    /// `EIO` when the device is gone, `ETIMEDOUT` when it does not follow.
    pub(in crate::mgmt) fn quiesce(&self) -> Result {
        // Not in the middle of a reset.
        let _one = self.reset.lock();
        let hw = self.hw.enter().ok_or(ENOTCONN)?;
        hardware::disable_queue(&hw)
    }

    /// Drops what was in flight. The device does no DMA any more.
    pub(in crate::mgmt) fn free_slots(&self) {
        // Without memory the requests stay until the queue goes, but not their buffers' memory.
        if let Ok(fresh) = Slots::new(0) {
            drop(self.take_slots(fresh));
        }
    }
}
