// SPDX-License-Identifier: GPL-2.0

//! The end of the queue, when the management function is unbound or gone.

use super::{
    super::{
        device::Device,
        line::Line,
        slots::Slots, //
    },
    Life,
    Queue,
    State, //
};
use kernel::{
    prelude::*,
    sync::atomic::Release, //
};

impl<D: Device> Queue<D> {
    /// Ends the queue with `error`: wakes all waiting threads and tells the clients. The device
    /// keeps the buffers of commands in flight until [`Self::free_slots`].
    pub(crate) fn go_down(&self, error: Error) {
        {
            let mut state = self.state.lock();
            state.life = Life::Down;
            end_all(&mut state, error);
            // ORDERING: A thread that sees this sees that all commands have ended. It is set under
            // the lock, so a thread whose command has failed with `ENOTCONN` sees it, too.
            self.down.store(true, Release);
        }
        for channel in &self.channels {
            channel.event.signal();
            channel.wake_reader();
            channel.room.signal();
            if let Some(client) = channel.client() {
                client.lost();
            }
        }
    }

    /// Drops the commands that were in flight or waiting, and with them their buffers. The device
    /// must not do DMA any more.
    pub(super) fn free_slots(&self) {
        // If this allocation fails, the requests stay until the queue is freed. The memory of their
        // buffers has been freed with the bound cell.
        if let (Ok(slots), Ok(line)) = (Slots::new(0), Line::new(0)) {
            let old = {
                let mut state = self.state.lock();
                (
                    core::mem::replace(&mut state.slots, slots),
                    core::mem::replace(&mut state.line, line),
                )
            };
            drop(old);
        }
    }
}

/// Ends all commands, in flight or waiting. It removes none, because that might free memory under
/// the caller's spin lock.
pub(super) fn end_all<D: Device>(state: &mut State<D>, error: Error) {
    for request in state.slots.iter() {
        request.finish(Err(error));
    }
    state.line.each(|request| request.finish(Err(error)));
}
