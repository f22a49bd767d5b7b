// SPDX-License-Identifier: GPL-2.0

//! Ordering between two devices that sysfs shows as unrelated (`struct device_link`).

use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    sync::aref::ARef, //
};

/// `DL_FLAG_STATELESS` of `linux/device.h`, a macro with a cast that bindgen does not see through.
const STATELESS: u32 = 1 << 0;

/// The consumer is suspended and shut down before its supplier, and resumed after it, for as long as this
/// lives.
///
/// Stateless: the driver core does not unbind the consumer when the supplier's driver goes. A consumer whose
/// user is to outlive the supplier's driver needs that (contract S10, K12).
pub(crate) struct DeviceLink {
    consumer: ARef<Device>,
    supplier: ARef<Device>,
}

impl DeviceLink {
    /// Links two devices. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the supplier is not registered, depends on the consumer, or is the consumer; or there is no
    /// memory (the C function does not say which).
    pub(crate) fn new(consumer: &Device<Bound>, supplier: &Device<Bound>) -> Result<Self> {
        // SAFETY: Both devices are valid, and the link takes references of its own.
        let link =
            unsafe { bindings::device_link_add(as_raw(consumer), as_raw(supplier), STATELESS) };
        if link.is_null() {
            return Err(EINVAL);
        }
        Ok(Self {
            consumer: ARef::from(&**consumer),
            supplier: ARef::from(&**supplier),
        })
    }
}

impl Drop for DeviceLink {
    fn drop(&mut self) {
        // Looks the link up, which is gone already if one of the devices is.
        //
        // SAFETY: We hold references to both devices. The link, if there, is stateless and ours to put.
        unsafe {
            bindings::device_link_remove(as_raw(&self.consumer).cast(), as_raw(&self.supplier));
        }
    }
}

/// `Device` is a transparent wrapper.
fn as_raw(device: &Device) -> *mut bindings::device {
    core::ptr::from_ref(device).cast_mut().cast()
}
