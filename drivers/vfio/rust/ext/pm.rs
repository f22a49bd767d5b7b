// SPDX-License-Identifier: GPL-2.0

//! Runtime power management of a device.
//!
//! C header: [`include/linux/pm_runtime.h`](srctree/include/linux/pm_runtime.h)

use crate::bindings;
use kernel::{
    device::{
        Bound,
        Device, //
    },
    error::to_result,
    prelude::*, //
};

/// A runtime PM usage count: while it exists the device stays resumed (for a PCI function: in D0).
pub(crate) struct Awake<'a>(&'a Device<Bound>);

impl<'a> Awake<'a> {
    /// Resumes the device and takes a usage count. Sleeps. The resume callback of vfio-pci-core
    /// takes `memory_lock`, so the caller must not hold it.
    ///
    /// # Errors
    ///
    /// Those of `pm_runtime_resume_and_get()`.
    pub(crate) fn new(device: &'a Device<Bound>) -> Result<Self> {
        // SAFETY: `device` is valid and bound for `'a`.
        to_result(unsafe { bindings::pm_runtime_resume_and_get(as_raw(device)) })?;
        Ok(Self(device))
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        // SAFETY: The device is valid for the lifetime of `self`; this gives back the usage count
        // that `new` took.
        unsafe { bindings::pm_runtime_put(as_raw(self.0)) };
    }
}

/// Returns the C device, of which `Device` is a transparent wrapper.
fn as_raw(device: &Device<Bound>) -> *mut kernel::bindings::device {
    core::ptr::from_ref(device).cast_mut().cast()
}
