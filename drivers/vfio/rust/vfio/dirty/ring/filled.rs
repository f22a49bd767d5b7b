// SPDX-License-Identifier: GPL-2.0

//! Rings for benchmarks, in memory that no device writes.

use super::{
    consumer::{
        LogConsumer,
        CHUNK, //
    },
    format::{
        Entry,
        Format, //
    },
    memory::LogRing,
};
use crate::ext::bench::DmaDevice;
use kernel::{
    dma::Coherent,
    io::{
        io_project,
        Io, //
    },
    prelude::*,
};

impl<F: Format> LogRing<F> {
    /// Creates a ring of `1 << order` words that holds `entries`, or as many of them as fit.
    /// Returns their number, too.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the allocation fails.
    pub(crate) fn filled(
        device: &DmaDevice,
        order: u32,
        entries: &mut dyn Iterator<Item = Entry>,
    ) -> Result<(Self, u32)> {
        let size = 1usize << order;
        let memory = device.alloc::<[u64; CHUNK]>(size / CHUNK)?;
        let mut posted = 0u32;
        memory.with(|memory| -> Result {
            for (place, entry) in entries.take(size).enumerate() {
                let word = F::encode(entry, true);
                io_project!(memory, [try: place / CHUNK][try: place % CHUNK]).write_val(word);
                posted = posted.wrapping_add(1);
            }
            Ok(())
        })??;
        Ok((Self::new(memory, order), posted))
    }

    /// Resets the consumer, as if nothing had been consumed.
    pub(crate) fn rewind(&mut self) {
        self.consumer = LogConsumer::new(self.consumer.size().trailing_zeros());
    }

    /// Calls `f` with the memory of the ring.
    pub(crate) fn with_memory(&self, f: impl FnOnce(&Coherent<[[u64; CHUNK]]>)) {
        let _ = self.memory.with(f);
    }
}
