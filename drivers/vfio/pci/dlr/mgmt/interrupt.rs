// SPDX-License-Identifier: GPL-2.0

//! Interrupt handlers of the management function: one vector for the queue, the others for logs.

use super::{
    queue::{
        Queue,
        VECTOR, //
    },
    service::log_vector, //
};
use kernel::{
    irq::{
        IrqReturn,
        ThreadedHandler,
        ThreadedIrqReturn, //
    },
    prelude::*,
    sync::Arc, //
};

/// Handler of one MSI-X vector.
pub(super) struct Handler {
    queue: Arc<Queue>,
    index: u32,
    vectors: u32,
}

impl Handler {
    /// Creates the handler of vector `index` of `vectors`.
    pub(super) fn new(
        queue: Arc<Queue>,
        index: usize,
        vectors: usize,
    ) -> impl PinInit<Self, Error> + 'static {
        Ok(Self {
            queue,
            // CAST: A device has at most 2048 vectors.
            index: index as u32,
            vectors: vectors as u32,
        })
    }

    fn channels(&self) -> impl Iterator<Item = &Arc<super::channel::Channel>> {
        self.queue
            .channels
            .iter()
            .filter(|c| log_vector(c.number.into(), self.vectors) == self.index)
    }
}

impl ThreadedHandler for Handler {
    fn handle(&self) -> ThreadedIrqReturn {
        if self.index != VECTOR {
            // Signalled here already: the thread below may have to wait for a lock whose holder
            // waits for this event.
            self.channels().for_each(|c| c.event.signal());
        }
        ThreadedIrqReturn::WakeThread
    }

    fn handle_threaded(&self) -> IrqReturn {
        if self.index == VECTOR {
            self.queue.take_completions();
        } else {
            self.queue.stats.log_interrupts.count();
            for channel in self.channels() {
                // The event "more to read" (`struct dlr_save_begin_params`) uses the vector of the
                // log. The reader comes first, because the client may sleep.
                channel.wake_reader();
                if let Some(client) = channel.client() {
                    client.log_ready();
                }
            }
        }
        IrqReturn::Handled
    }
}
