// SPDX-License-Identifier: GPL-2.0

//! Interrupts of the management function: one vector for the queue, the others for logs.

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

/// Handler of one vector.
pub(super) struct Handler {
    queue: Arc<Queue>,
    index: u32,
    vectors: u32,
}

impl Handler {
    /// For vector `index` of `vectors`.
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
            // Already here, because the thread may be waiting for a lock that is held by the very thread
            // that waits for this.
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
                if let Some(client) = channel.client() {
                    client.log_ready();
                }
            }
        }
        IrqReturn::Handled
    }
}
