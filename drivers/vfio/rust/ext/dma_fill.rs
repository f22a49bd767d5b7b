// SPDX-License-Identifier: GPL-2.0

//! Copies from user memory straight into DMA memory.
//!
//! `IovIterSource` copies into a slice only, and DMA memory must not be one: the device may write
//! it at any time.
//!
//! C header: [`include/linux/uio.h`](srctree/include/linux/uio.h)

use super::crc32c::Crc32c;
use crate::bindings;
use kernel::{
    dma::Coherent,
    iov::IovIterSource,
    prelude::*, //
};

/// Copies the next bytes of `src`, at most `len`, to `memory` from byte `at` on, and returns their
/// number. Adds the copy to `crc`, so that `crc` covers the bytes that the device gets.
///
/// Copies with page faults disabled, so that the caller may hold a lock for which other threads
/// wait. If a page of the user is not in memory, copies less or nothing. The caller then copies
/// some bytes elsewhere without the lock, which brings the page in, and goes on.
///
/// # Errors
///
/// `EINVAL` beyond the end of `memory`.
pub(crate) fn fill(
    memory: &Coherent<[u8]>,
    at: usize,
    len: usize,
    src: &mut IovIterSource<'_>,
    crc: &mut Crc32c,
) -> Result<usize> {
    let end = at.checked_add(len).ok_or(EINVAL)?;
    if end > memory.len() {
        return Err(EINVAL);
    }
    // SAFETY: `at` is within the memory.
    let to = unsafe { memory.as_mut_ptr().cast::<u8>().add(at) };
    // SAFETY: `to` is valid for writes of `len` bytes. No reference to the memory exists. C may
    // read from `src` by its type invariant.
    let copied = unsafe { bindings::vfio_copy_from_iter_nofault(to.cast(), len, src.as_raw()) };
    // SAFETY: C has copied at most `len` bytes, for which `to` is valid.
    unsafe { crc.update_raw(to, copied) };
    Ok(copied)
}

#[kunit_tests(ext_dma_fill)]
mod tests {
    use super::*;
    use crate::ext::testing::{
        DmaDevice,
        UserMemory, //
    };
    use kernel::{
        io::{
            io_project,
            Io, //
        },
        page::PAGE_SIZE, //
    };

    /// The second page of the user was never touched, so that its copy would meet a page fault.
    #[test]
    fn what_is_in_memory_is_copied_and_in_the_checksum() -> Result {
        let dev = DmaDevice::new(c"vfio-kunit-fill")?;
        let memory = dev.alloc::<u8>(2 * PAGE_SIZE)?;
        let user = UserMemory::new(2 * PAGE_SIZE)?;
        let mut page = KVec::new();
        for i in 0..PAGE_SIZE {
            page.push((i % 251) as u8, GFP_KERNEL)?;
        }
        user.write(&page)?;
        let mut crc = Crc32c::new();
        user.as_source(|src| {
            memory.with(|memory| {
                assert_eq!(fill(memory, 5, 100, src, &mut crc), Ok(100));
                assert_eq!(
                    fill(memory, 105, PAGE_SIZE, src, &mut crc),
                    Ok(PAGE_SIZE - 100)
                );
                assert_eq!(fill(memory, 5, PAGE_SIZE, src, &mut crc), Ok(0));
                for at in [PAGE_SIZE + 1, 2 * PAGE_SIZE + 1, usize::MAX] {
                    assert_eq!(fill(memory, at, PAGE_SIZE, src, &mut crc), Err(EINVAL));
                }
                assert_eq!(src.len(), PAGE_SIZE);
                let mut copy = KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL)?;
                io_project!(memory, [try: 5..5 + PAGE_SIZE]).copy_to_slice(&mut copy);
                assert_eq!(copy, page);
                Ok::<(), Error>(())
            })
        })??;
        let mut want = Crc32c::new();
        want.update(&page);
        assert_eq!(crc, want);
        Ok(())
    }
}
