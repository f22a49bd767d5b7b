// SPDX-License-Identifier: GPL-2.0

//! Devices, one of them with DMA memory, user memory and a PCI function for KUnit tests.

mod function;

pub(crate) use self::function::FakeFunction;

use super::dma_pool::{
    Pool,
    Slice, //
};
use core::{
    mem::MaybeUninit,
    panic::Location,
    ptr::NonNull, //
};

use crate::bindings::{
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    faux, ffi,
    iov::IovIterSource,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// Returns `EINVAL` unless `condition` is true, and prints which line has asked. For helpers of
/// tests: outside of a `#[kunit_tests]` module, and before its first test, `assert!` is that of the
/// core library, which panics the kernel.
#[track_caller]
pub(crate) fn holds(condition: bool) -> Result {
    if condition {
        return Ok(());
    }
    let place = Location::caller();
    pr_err!("{}:{}: does not hold\n", place.file(), place.line());
    Err(EINVAL)
}

/// A bound device that can do coherent DMA.
///
/// A failed assertion ends the thread of the case without dropping anything. So the device is a
/// resource of the case, which KUnit removes at its end; otherwise the next run would fail with
/// `EEXIST`.
pub(crate) struct DmaDevice {
    test: NonNull<bindings::kunit>,
    device: NonNull<Registered>,
}

/// The device and its memory, which `drop` frees first.
struct Registered {
    pool: Arc<Pool>,
    registration: faux::Registration,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.pool.close();
    }
}

impl DmaDevice {
    /// Registers a device for the running test.
    ///
    /// # Errors
    ///
    /// `EINVAL` outside of a test, `EEXIST` for a name that is in use, `ENOMEM`.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        let test = current_test()?;
        let device = Registered {
            // SAFETY: Dropping `Registered` closes the pool before it unbinds the device.
            pool: unsafe { Pool::new()? },
            registration: faux::Registration::new(name, None)?,
        };
        let device = KBox::new(device, GFP_KERNEL)?;
        let bound: &Device<Bound> = device.registration.as_ref().as_ref();
        let raw = core::ptr::from_ref(bound)
            .cast_mut()
            .cast::<bindings::device>();
        // SAFETY: `raw` is a valid device that only this function uses yet. The rest is what
        // `dma_coerce_mask_and_coherent()` does.
        unsafe {
            (*raw).dma_mask = &raw mut (*raw).coherent_dma_mask;
            to_result(bindings::dma_set_mask_and_coherent(raw, u64::MAX))?;
        }
        let device = KBox::into_raw(device);
        // SAFETY: `test` is the running test of this task. `unregister` gets the box exactly once:
        // from here if this fails, else from `drop` or at the end of the test
        // (kunit_add_action_or_reset() in include/kunit/resource.h).
        to_result(unsafe {
            bindings::kunit_add_action_or_reset(test.as_ptr(), Some(unregister), device.cast())
        })?;
        Ok(Self {
            test,
            device: NonNull::new(device).ok_or(EINVAL)?,
        })
    }

    fn device(&self) -> &Registered {
        // SAFETY: the box lives until `unregister`, which comes after the last use of `self`.
        unsafe { self.device.as_ref() }
    }

    /// Returns the device.
    pub(crate) fn bound(&self) -> &Device<Bound> {
        self.device().registration.as_ref().as_ref()
    }

    /// Returns the pool of its memory.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.device().pool
    }

    /// Allocates DMA memory for `len` values.
    ///
    /// # Errors
    ///
    /// See [`Pool::alloc`].
    pub(crate) fn alloc<T>(&self, len: usize) -> Result<Slice<T>>
    where
        T: AsBytes + FromBytes + Send + 'static,
    {
        self.pool().alloc(self.bound(), len, GFP_KERNEL)
    }
}

impl Drop for DmaDevice {
    fn drop(&mut self) {
        let context = self.device.as_ptr().cast();
        // SAFETY: a `DmaDevice` is dropped by the test that made it, so `test` is running. The
        // action is still registered: only this function releases it.
        unsafe { bindings::kunit_release_action(self.test.as_ptr(), Some(unregister), context) };
    }
}

/// Removes the device of a test.
///
/// # Safety
///
/// `context` is the box that `DmaDevice::new` has made, and is not used after this.
unsafe extern "C" fn unregister(context: *mut ffi::c_void) {
    // SAFETY: By the requirements of this function.
    drop(unsafe { KBox::from_raw(context.cast::<Registered>()) });
}

/// Registers a device, for messages, that exists until the end of the running test. KUnit removes
/// it then, also if the test has failed.
///
/// # Errors
///
/// `EINVAL` outside of a test, `ENODEV` for a name that is in use or if there is no memory for the
/// device, `ENOMEM`.
pub(crate) fn device_of_test(name: &'static CStr) -> Result<ARef<Device>> {
    let test = current_test()?;
    let registration = KBox::new(faux::Registration::new(name, None)?, GFP_KERNEL)?;
    let bound: &Device<Bound> = (*registration).as_ref().as_ref();
    let device = ARef::from(&**bound);
    let context = KBox::into_raw(registration).cast();
    // SAFETY: `test` is the running test of this task. `unregister_device` gets the box exactly
    // once: from here if this fails, else at the end of the test.
    to_result(unsafe {
        bindings::kunit_add_action_or_reset(test.as_ptr(), Some(unregister_device), context)
    })?;
    Ok(device)
}

/// Removes the device of a test.
///
/// # Safety
///
/// `context` is the box that [`device_of_test`] has made, and is not used after this.
unsafe extern "C" fn unregister_device(context: *mut ffi::c_void) {
    // SAFETY: By the requirements of this function.
    drop(unsafe { KBox::from_raw(context.cast::<faux::Registration>()) });
}

/// The running test of this task; `EINVAL` if there is none.
fn current_test() -> Result<NonNull<bindings::kunit>> {
    // SAFETY: the function may be called by every task.
    NonNull::new(unsafe { bindings::kunit_get_current_test() }).ok_or(EINVAL)
}

/// Zeroed user memory in the address space that KUnit gives to the thread of a case. It is freed at
/// the end of the thread.
pub(crate) struct UserMemory {
    address: usize,
    len: usize,
}

impl UserMemory {
    /// Maps `len` bytes, a multiple of the page size, without populating them.
    ///
    /// # Errors
    ///
    /// `EINVAL` outside of a test, `ENOMEM`.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let test = current_test()?;
        let access = PROT_READ | PROT_WRITE;
        let kind = MAP_ANONYMOUS | MAP_PRIVATE;
        // SAFETY: `test` is the test of this task, and the file may be NULL for anonymous memory.
        let address = unsafe {
            bindings::kunit_vm_mmap(
                test.as_ptr(),
                core::ptr::null_mut(),
                0,
                len,
                access as usize,
                kind as usize,
                0,
            )
        };
        // Errors of `vm_mmap()` come as addresses.
        if address == 0 || address & (PAGE_SIZE - 1) != 0 {
            return Err(ENOMEM);
        }
        Ok(Self { address, len })
    }

    /// Unmaps all but the first `len` bytes, a multiple of the page size.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the memory is not larger than `len`, `ENOMEM`.
    pub(crate) fn truncate(&mut self, len: usize) -> Result {
        let rest = self.len.checked_sub(len).filter(|rest| *rest != 0);
        let rest = rest.ok_or(EINVAL)?;
        // SAFETY: Every task with an address space may call the function, and this task has had one
        // since `new`. Only this object uses the memory.
        to_result(unsafe { bindings::vm_munmap(self.address + len, rest) })?;
        self.len = len;
        Ok(())
    }

    /// Writes `bytes` to the beginning of the memory.
    ///
    /// # Errors
    ///
    /// `EFAULT`.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result {
        let len = self.len.min(bytes.len());
        UserSlice::new(UserPtr::from_addr(self.address), len)
            .writer()
            .write_slice(bytes)
    }

    /// Calls `f` with all bytes as the data of a write().
    pub(crate) fn as_source<R>(&self, f: impl FnOnce(&mut IovIterSource<'_>) -> R) -> R {
        let iovec = bindings::iovec {
            iov_base: UserPtr::from_addr(self.address).as_mut_ptr(),
            iov_len: self.len,
        };
        let mut iter = MaybeUninit::<bindings::iov_iter>::uninit();
        let iter = iter.as_mut_ptr();
        // SAFETY: `iovec` outlives `iter`, and the addresses are those of a user.
        unsafe {
            bindings::iov_iter_init(iter, bindings::ITER_SOURCE, &iovec, 1, self.len);
            f(IovIterSource::from_raw(iter))
        }
    }

    /// Returns the user address of the memory.
    pub(crate) fn address(&self) -> usize {
        self.address
    }

    /// Reads all bytes.
    ///
    /// # Errors
    ///
    /// `EFAULT`, `ENOMEM`.
    pub(crate) fn read(&self) -> Result<KVec<u8>> {
        let mut bytes = KVec::new();
        UserSlice::new(UserPtr::from_addr(self.address), self.len)
            .read_all(&mut bytes, GFP_KERNEL)?;
        Ok(bytes)
    }
}

#[kunit_tests(ext_testing)]
mod tests {
    use super::*;

    const NAME: &CStr = c"vfio-kunit-left";

    /// Like a failed assertion, this drops nothing.
    #[test]
    fn a_case_leaves_its_device_behind() -> Result {
        core::mem::forget(DmaDevice::new(NAME)?);
        Ok(())
    }

    #[test]
    fn the_next_one_finds_the_name_free() -> Result {
        DmaDevice::new(NAME).map(drop)
    }

    #[test]
    fn a_users_memory_is_there_and_goes() -> Result {
        let mut memory = UserMemory::new(2 * PAGE_SIZE)?;
        assert!(memory.read()?.iter().all(|byte| *byte == 0));
        assert_eq!(memory.read()?.len(), 2 * PAGE_SIZE);
        memory.truncate(PAGE_SIZE)?;
        assert_eq!(memory.read()?.len(), PAGE_SIZE);
        memory.len += 1;
        assert_eq!(memory.read().err(), Some(EFAULT));
        assert_eq!(memory.truncate(PAGE_SIZE + 1), Err(EINVAL));
        Ok(())
    }
}
