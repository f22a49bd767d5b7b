// SPDX-License-Identifier: GPL-2.0

//! DMA buffers of commands, and access to the words of the queue's rings.
//!
//! A buffer can outlive the binding, because sessions and commands in flight refer to it. Its
//! memory cannot: it is in the pool of the [`BoundCell`](crate::ext::bound_cell::BoundCell), and
//! after unbind the calls of the buffer fail with `ENOTCONN`.

use super::ring::Words;
use crate::ext::{
    bound_cell::Guard, //
    crc32c::Crc32c,
    dma_fill,
    dma_pool::Slice,
    gfp::USER,
};
use kernel::{
    dma::Coherent,
    io::{
        io_project,
        Io,
        IoBase, //
    },
    iov::IovIterSource,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc, //
    },
};

/// Accesses use a view without the DMA address: with it, the address would be computed and checked
/// for each word.
impl Words for Coherent<[u64]> {
    #[inline]
    fn get(&self, index: usize) -> Option<u64> {
        let memory = self.as_view().as_sys_mem();
        let word = || -> Result<u64> { Ok(io_project!(memory, [try: index]).read_val()) };
        word().ok()
    }

    #[inline]
    fn set(&self, index: usize, value: u64) -> bool {
        let memory = self.as_view().as_sys_mem();
        let write = || -> Result {
            io_project!(memory, [try: index]).write_val(value);
            Ok(())
        };
        write().is_ok()
    }

    fn len(&self) -> usize {
        Coherent::len(self)
    }
}

/// A DMA buffer for commands.
///
/// While a command that uses it is in flight, the buffer belongs to the device, even if the thread
/// that waits for the command was killed. Dropping the last reference frees it.
pub(crate) struct Buffer {
    memory: Slice<u8>,
    in_flight: Atomic<bool>,
}

impl Buffer {
    /// Allocates a zeroed buffer, charged to the caller's memory cgroup.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` if the binding has ended, `EINVAL` if `len` is 0, `ENOMEM`.
    pub(crate) fn new<T, const SIZE: usize>(
        hw: &Guard<'_, T, SIZE>,
        len: usize,
    ) -> Result<Arc<Self>>
    where
        T: Send + Sync + 'static,
    {
        Self::from_memory(hw.alloc(len, USER)?)
    }

    /// Creates a buffer in `memory`.
    pub(super) fn from_memory(memory: Slice<u8>) -> Result<Arc<Self>> {
        let buffer = Self {
            memory,
            in_flight: Atomic::new(false),
        };
        Ok(Arc::new(buffer, USER)?)
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Hands the buffer to a command and returns its DMA address.
    ///
    /// # Errors
    ///
    /// `EBUSY` if another command owns it.
    pub(super) fn claim(&self) -> Result<u64> {
        if self.in_flight.xchg(true, Full) {
            return Err(EBUSY);
        }
        Ok(self.memory.dma_address())
    }

    /// Takes the buffer back from a command.
    pub(super) fn release(&self) {
        self.in_flight.xchg(false, Full);
    }

    /// Copies from the buffer.
    ///
    /// # Errors
    ///
    /// `EBUSY` while a command owns the buffer, `EINVAL` beyond its end, `ENOTCONN` if the binding
    /// has ended.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) -> Result {
        let end = offset.checked_add(to.len()).ok_or(EINVAL)?;
        self.with(end, |memory| {
            io_project!(memory, [try: offset..end]).copy_to_slice(to);
            Ok(())
        })
    }

    /// Copies into the buffer.
    ///
    /// # Errors
    ///
    /// Those of [`Self::copy_out`].
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        let end = offset.checked_add(from.len()).ok_or(EINVAL)?;
        self.with(end, |memory| {
            io_project!(memory, [try: offset..end]).copy_from_slice(from);
            Ok(())
        })
    }

    /// Copies the next bytes of `src`, at most `len`, into the buffer, and adds them to `crc`.
    /// Returns their number, see [`dma_fill::fill`].
    ///
    /// # Errors
    ///
    /// Those of [`Self::copy_out`].
    pub(crate) fn fill(
        &self,
        offset: usize,
        len: usize,
        src: &mut IovIterSource<'_>,
        crc: &mut Crc32c,
    ) -> Result<usize> {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        self.with(end, |memory| dma_fill::fill(memory, offset, len, src, crc))
    }

    /// Runs `f` on the memory while no command owns the buffer. `end` is the end of the bytes that
    /// `f` accesses.
    fn with<R>(&self, end: usize, f: impl FnOnce(&Coherent<[u8]>) -> Result<R>) -> Result<R> {
        if end > self.memory.len() {
            return Err(EINVAL);
        }
        // Claim the buffer during the copy, so that no command can start with it.
        self.claim()?;
        let result = self.memory.with(f).and_then(|result| result);
        self.release();
        result
    }
}

#[kunit_tests(ext_cmdq_buffer)]
mod tests {
    use super::*;
    use crate::ext::testing::DmaDevice;

    #[test]
    fn copies_within_bounds() -> Result {
        let dev = DmaDevice::new(c"cmdq-kunit-copy")?;
        let buffer = Buffer::from_memory(dev.alloc(64)?)?;
        buffer.copy_in(3, b"hello")?;
        let mut got = [0; 7];
        buffer.copy_out(2, &mut got)?;
        assert_eq!(&got, b"\0hello\0");
        assert_eq!(buffer.copy_in(60, b"hello"), Err(EINVAL));
        assert_eq!(buffer.copy_out(usize::MAX, &mut got), Err(EINVAL));
        assert_eq!(buffer.copy_out(64, &mut []), Ok(()));
        Ok(())
    }

    #[test]
    fn in_flight_is_the_devices() -> Result {
        let dev = DmaDevice::new(c"cmdq-kunit-flight")?;
        let buffer = Buffer::from_memory(dev.alloc(64)?)?;
        buffer.claim()?;
        assert_eq!(buffer.claim().err(), Some(EBUSY));
        assert_eq!(buffer.copy_in(0, b"x"), Err(EBUSY));
        buffer.release();
        assert_eq!(buffer.copy_in(0, b"x"), Ok(()));
        Ok(())
    }

    #[test]
    fn rings_in_coherent_memory() -> Result {
        let dev = DmaDevice::new(c"cmdq-kunit-ring")?;
        let ring = Coherent::<u64>::zeroed_slice(dev.bound(), 16, GFP_KERNEL)?;
        assert!(ring.set(15, 7));
        assert_eq!(ring.get(15), Some(7));
        assert_eq!(ring.get(16), None);
        assert!(!ring.set(16, 1));
        Ok(())
    }
}
