// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A bitmap in memory that the kernel has to wait for: its pages are there when they are let in.
//!
//! It stands for what real user memory may be, such as memory that is swapped out or belongs to
//! another machine. Made with userfaultfd(2), which needs `CONFIG_USERFAULTFD` and root.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::mm::{userfaultfd, UserfaultfdFlags};
use vm_memory::{mmap::MmapRegion, VolatileMemory};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

/// `_IOWR(0xaa, nr, size)` of `linux/userfaultfd.h`.
const fn uffd(nr: u64, size: usize) -> u64 {
    3 << 30 | (size as u64) << 16 | 0xaa << 8 | nr
}
const UFFDIO_API: u64 = uffd(0x3f, 24);
const UFFDIO_REGISTER: u64 = uffd(0x00, 32);
const UFFDIO_ZEROPAGE: u64 = uffd(0x04, 32);
/// Number of the API, in `uffdio_api.api`.
const UFFD_API: u64 = 0xaa;
/// Faults on pages that are missing.
const MODE_MISSING: u64 = 1;
const PAGE: usize = 4096;

/// See the module.
pub struct HeldBitmap {
    memory: MmapRegion,
    fd: OwnedFd,
    words: usize,
}

impl HeldBitmap {
    /// A bitmap of `words` words, none of whose pages are there.
    ///
    /// # Errors
    ///
    /// The kernel's errno; EPERM or ENOSYS where there is no userfaultfd.
    pub fn new(words: usize) -> io::Result<Self> {
        let bytes = (words * 8).next_multiple_of(PAGE).max(PAGE);
        let memory = MmapRegion::new(bytes).map_err(io::Error::other)?;
        // SAFETY: no page of the process is given away but those of `memory`, which only kernel
        // code touches before they are let in.
        let fd = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC) }?;
        let this = Self { memory, fd, words };
        this.call(UFFDIO_API, &mut [UFFD_API, 0, 0])?;
        let start = this.address();
        this.call(UFFDIO_REGISTER, &mut [start, bytes as u64, MODE_MISSING, 0])?;
        Ok(this)
    }

    fn call<const N: usize>(&self, nr: u64, argument: &mut [u64; N]) -> io::Result<()> {
        // SAFETY: the size in `nr` is that of `argument`, and the range in it is that of `memory`
        // or a part of it.
        if unsafe { ioctl_with_mut_ref(&self.fd.as_raw_fd(), nr, argument) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// How many words it has.
    pub fn len(&self) -> usize {
        self.words
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.words == 0
    }

    /// Where it is, for the kernel to write to.
    pub fn address(&self) -> u64 {
        self.memory.as_ptr() as u64
    }

    /// Lets all pages in, and wakes those who wait for them.
    ///
    /// # Errors
    ///
    /// The kernel's errno.
    pub fn release(&self) -> io::Result<()> {
        for offset in (0..self.memory.size()).step_by(PAGE) {
            let page = self.address() + offset as u64;
            match self.call(UFFDIO_ZEROPAGE, &mut [page, PAGE as u64, 0, 0]) {
                // It is there already.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => (),
                result => result?,
            }
        }
        Ok(())
    }

    /// The words, after all pages were let in.
    ///
    /// # Errors
    ///
    /// As [`Self::release`].
    pub fn words(&self) -> io::Result<Vec<u64>> {
        self.release()?;
        let mut words = vec![0u64; self.words];
        let memory = self.memory.get_slice(0, self.words * 8);
        memory.map_err(io::Error::other)?.copy_to(&mut words);
        Ok(words)
    }
}
