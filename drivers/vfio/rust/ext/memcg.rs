// SPDX-License-Identifier: GPL-2.0

//! Charging kernel memory to the memory cgroup of a user from another thread.
//!
//! `GFP_KERNEL_ACCOUNT` charges the memory cgroup of the running thread. For the thread of an
//! interrupt that is the root cgroup, where no limit applies.
//!
//! C header: [`include/linux/memcontrol.h`](srctree/include/linux/memcontrol.h)

use crate::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// The memory cgroup to charge, with a reference, or none.
pub(crate) struct Charge(Option<NonNull<c_void>>);

// SAFETY: References to a cgroup are counted by a percpu_ref and may be put by any thread.
unsafe impl Send for Charge {}
// SAFETY: A shared reference only reads the pointer, which does not change.
unsafe impl Sync for Charge {}

impl Charge {
    /// Returns the memory cgroup of `current->mm`. Like [`Self::none`] in a kernel without memory
    /// cgroups.
    pub(crate) fn current() -> Self {
        // SAFETY: The helper takes a reference to the memory cgroup of `current->mm`.
        Self(NonNull::new(unsafe {
            bindings::rust_helper_vfio_memcg_get()
        }))
    }

    /// Charges the running thread's cgroup, as without a [`Charge`].
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Runs `f`; its accounted allocations are charged to this cgroup.
    ///
    /// This takes a closure instead of returning a guard, because a leaked guard would leave a
    /// stale pointer in `current`.
    pub(crate) fn scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let Some(group) = self.0 else {
            return f();
        };
        // SAFETY: `self` holds a reference until the old value is restored below. `f` returns or
        // the kernel panics: there is no unwinding.
        let old = unsafe { bindings::rust_helper_vfio_memcg_set_active(group.as_ptr()) };
        let result = f();
        // SAFETY: `old` was active when this function was called, and the caller still holds its
        // reference.
        unsafe { bindings::rust_helper_vfio_memcg_set_active(old) };
        result
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // SAFETY: This puts the reference that `current()` took.
            unsafe { bindings::rust_helper_vfio_memcg_put(group.as_ptr()) };
        }
    }
}
