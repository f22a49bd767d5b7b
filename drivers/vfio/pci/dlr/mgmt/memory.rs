// SPDX-License-Identifier: GPL-2.0

//! DMA buffers of the management function.
//!
//! Their users (sessions, commands in flight) can outlive the binding, their memory cannot: it is mapped
//! for the management function. So every buffer is on a list, and closing the list frees the memory of all
//! of them; what is left of a buffer then says `ENOTCONN`.

use super::ring::Words;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::{
        io_project,
        Io, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc,
        Mutex,
        UniqueArc, //
    },
};

impl Words for Coherent<[u64]> {
    #[inline]
    fn get(&self, index: usize) -> Option<u64> {
        let word = || -> Result<u64> { Ok(io_project!(self, [try: index]).read_val()) };
        word().ok()
    }

    #[inline]
    fn set(&self, index: usize, value: u64) -> bool {
        let write = || -> Result {
            io_project!(self, [try: index]).write_val(value);
            Ok(())
        };
        write().is_ok()
    }
}

/// All buffers of one binding.
#[pin_data]
pub(super) struct Memory {
    /// `None` once closed.
    #[pin]
    buffers: Mutex<Option<KVec<Arc<Backing>>>>,
}

/// A buffer's memory.
#[pin_data]
struct Backing {
    address: u64,
    /// `None` once closed.
    #[pin]
    memory: Mutex<Option<Coherent<[u8]>>>,
}

/// A DMA buffer for commands.
///
/// While a command that uses it is in flight it belongs to the device, whatever happens to the thread that
/// waits. Dropping the last reference frees it.
pub(crate) struct Buffer {
    backing: Arc<Backing>,
    home: Arc<Memory>,
    len: usize,
    in_flight: Atomic<bool>,
}

impl Memory {
    /// No buffer.
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                buffers <- new_mutex!(Some(KVec::new()), "dlr_mgmt::Memory"),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes a zeroed buffer.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` once closed, `EINVAL` for a length of 0, `ENOMEM`.
    pub(super) fn alloc(self: &Arc<Self>, dev: &Device<Bound>, len: usize) -> Result<Arc<Buffer>> {
        // First, because dropping a `Buffer` takes the lock.
        let buffer = UniqueArc::<Buffer>::new_uninit(GFP_KERNEL)?;
        let mut buffers = self.buffers.lock();
        let list = (*buffers).as_mut().ok_or(ENOTCONN)?;
        let memory = Coherent::<u8>::zeroed_slice(dev, len, GFP_KERNEL)?;
        let backing = Arc::pin_init(
            pin_init!(Backing {
                address: memory.dma_address(),
                memory <- new_mutex!(Some(memory), "dlr_mgmt::Backing"),
            }),
            GFP_KERNEL,
        )?;
        list.push(backing.clone(), GFP_KERNEL)?;
        let buffer = buffer.write(Buffer {
            backing,
            home: self.clone(),
            len,
            in_flight: Atomic::new(false),
        });
        Ok(buffer.into())
    }

    /// Number of buffers that have memory.
    pub(super) fn count(&self) -> usize {
        self.buffers.lock().as_ref().map_or(0, |list| list.len())
    }

    /// Frees the memory of all buffers, and of those to come. The device must not use any of them any more
    /// and must still be bound.
    pub(super) fn close(&self) {
        let Some(list) = self.buffers.lock().take() else {
            return;
        };
        for backing in &list {
            *backing.memory.lock() = None;
        }
    }
}

impl Buffer {
    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Hands the buffer to a command and tells where it is.
    ///
    /// # Errors
    ///
    /// `EBUSY` when another command has it.
    pub(super) fn claim(&self) -> Result<u64> {
        if self.in_flight.xchg(true, Full) {
            return Err(EBUSY);
        }
        Ok(self.backing.address)
    }

    /// The device is done with it.
    pub(super) fn release(&self) {
        self.in_flight.xchg(false, Full);
    }

    /// Copies from the buffer.
    ///
    /// # Errors
    ///
    /// `EBUSY` while a command is in flight, `EINVAL` beyond the end, `ENOTCONN` once the management
    /// function is gone.
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
    /// As [`Self::copy_out`].
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) -> Result {
        let end = offset.checked_add(from.len()).ok_or(EINVAL)?;
        self.with(end, |memory| {
            io_project!(memory, [try: offset..end]).copy_from_slice(from);
            Ok(())
        })
    }

    fn with(&self, end: usize, f: impl FnOnce(&Coherent<[u8]>) -> Result) -> Result {
        if end > self.len {
            return Err(EINVAL);
        }
        // Claimed for the copy, so that no command can start with it meanwhile.
        self.claim()?;
        let result = match self.backing.memory.lock().as_ref() {
            Some(memory) => f(memory),
            None => Err(ENOTCONN),
        };
        self.release();
        result
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffers = self.home.buffers.lock();
        let Some(list) = &mut *buffers else {
            // Closed: the memory is gone already.
            return;
        };
        if let Some(index) = list
            .iter()
            .position(|backing| Arc::ptr_eq(backing, &self.backing))
        {
            let _ = list.remove(index);
        }
        // With the list's lock held, so that `close` cannot return, and the device not be unbound, before
        // the memory is freed.
        *self.backing.memory.lock() = None;
    }
}

#[kunit_tests(dlr_mgmt_memory)]
mod tests {
    use super::*;
    use crate::kext::testing::DmaDevice;

    #[test]
    fn copies_within_bounds() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-copy")?;
        let memory = Memory::new()?;
        let buffer = memory.alloc(dev.bound(), 64)?;
        buffer.copy_in(3, b"hello")?;
        let mut got = [0; 7];
        buffer.copy_out(2, &mut got)?;
        assert_eq!(&got, b"\0hello\0");
        assert_eq!(buffer.copy_in(60, b"hello"), Err(EINVAL));
        assert_eq!(buffer.copy_out(usize::MAX, &mut got), Err(EINVAL));
        assert_eq!(buffer.copy_out(64, &mut []), Ok(()));
        memory.close();
        Ok(())
    }

    #[test]
    fn in_flight_is_the_devices() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-flight")?;
        let memory = Memory::new()?;
        let buffer = memory.alloc(dev.bound(), 64)?;
        buffer.claim()?;
        assert_eq!(buffer.claim().err(), Some(EBUSY));
        assert_eq!(buffer.copy_in(0, b"x"), Err(EBUSY));
        buffer.release();
        assert_eq!(buffer.copy_in(0, b"x"), Ok(()));
        memory.close();
        Ok(())
    }

    #[test]
    fn closing_frees_under_users() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-close")?;
        let memory = Memory::new()?;
        let kept = memory.alloc(dev.bound(), 4096)?;
        drop(memory.alloc(dev.bound(), 4096)?);
        assert_eq!(memory.count(), 1);
        memory.close();
        assert_eq!(memory.count(), 0);
        assert_eq!(kept.copy_in(0, b"x"), Err(ENOTCONN));
        assert_eq!(memory.alloc(dev.bound(), 64).err(), Some(ENOTCONN));
        drop(kept);
        Ok(())
    }

    #[test]
    fn rings_in_coherent_memory() -> Result {
        let dev = DmaDevice::new(c"dlr-kunit-ring")?;
        let ring = Coherent::<u64>::zeroed_slice(dev.bound(), 16, GFP_KERNEL)?;
        assert!(ring.set(15, 7));
        assert_eq!(ring.get(15), Some(7));
        assert_eq!(ring.get(16), None);
        assert!(!ring.set(16, 1));
        Ok(())
    }
}
