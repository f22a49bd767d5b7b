// SPDX-License-Identifier: GPL-2.0

//! Interrupt handlers of a management function: one vector for the queue, the others for the
//! functions that it serves.

use super::{
    channel::Channel,
    device::Device,
    queue::{
        Queue,
        VECTOR, //
    },
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

/// Returns the vector of function `number`, if there are at least 2 `vectors`. With few of them
/// several functions share one, but none shares the vector of the queue: a client may be waiting
/// for a completion.
pub(crate) fn vector_of(number: u32, vectors: u32) -> u32 {
    let own = vectors.saturating_sub(1).max(1);
    VECTOR + 1 + number.checked_rem(own).unwrap_or(0)
}

/// Handler of one MSI-X vector.
pub(crate) struct Handler<D: Device> {
    queue: Arc<Queue<D>>,
    index: u32,
    vectors: u32,
}

impl<D: Device> Handler<D> {
    /// Creates the handler of vector `index` of `vectors`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is one vector only: the functions need another one than the queue.
    pub(crate) fn new(
        queue: Arc<Queue<D>>,
        index: usize,
        vectors: usize,
    ) -> impl PinInit<Self, Error> + 'static {
        if vectors < 2 {
            return Err(EINVAL);
        }
        Ok(Self {
            queue,
            // CAST: A device has at most 2048 vectors.
            index: index as u32,
            vectors: vectors as u32,
        })
    }

    /// Returns the channels of the functions whose vector this is.
    fn channels(&self) -> impl Iterator<Item = &Arc<Channel<D::Function>>> {
        self.queue
            .channels
            .iter()
            .filter(|c| vector_of(c.number.into(), self.vectors) == self.index)
    }
}

impl<D: Device> ThreadedHandler for Handler<D> {
    fn handle(&self) -> ThreadedIrqReturn {
        if self.index != VECTOR {
            // Signal the event here and not in the thread below, which may have to wait for a lock
            // whose holder waits for this event.
            self.channels().for_each(|c| c.event.signal());
        }
        ThreadedIrqReturn::WakeThread
    }

    fn handle_threaded(&self) -> IrqReturn {
        if self.index == VECTOR {
            self.queue.take_completions();
        } else {
            self.queue.device.raised();
            for channel in self.channels() {
                // The vector may also mean that the session has more to read. The reader comes
                // first, because the client may sleep.
                channel.wake_reader();
                if let Some(client) = channel.client() {
                    client.raised();
                }
            }
        }
        IrqReturn::Handled
    }
}

#[kunit_tests(ext_cmdq_interrupt)]
mod tests {
    use super::*;

    #[test]
    fn functions_never_share_the_queues_vector() {
        for vectors in 2..66 {
            for number in 0..64 {
                let vector = vector_of(number, vectors);
                assert!(vector != VECTOR && vector < vectors);
            }
        }
        assert_eq!(vector_of(0, 3), 1);
        assert_eq!(vector_of(1, 3), 2);
        assert_eq!(vector_of(2, 3), 1);
    }
}
