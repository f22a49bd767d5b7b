// SPDX-License-Identifier: GPL-2.0

//! Ordering between two devices that sysfs shows as unrelated (`struct device_link`).

use kernel::{
    bindings,
    device::Device,
    prelude::*,
    sync::aref::ARef, //
};

/// `DL_FLAG_STATELESS` of `linux/device.h`, a macro with a cast that bindgen does not see through.
const STATELESS: u32 = 1 << 0;

/// A stateless device link. While it exists, the consumer is suspended and shut down before its
/// supplier, and resumed after it.
///
/// `DL_FLAG_STATELESS`: the driver core does not unbind the consumer when the supplier's driver is
/// unbound, so that a user can keep the consumer open (contract S10, K12).
pub(crate) struct DeviceLink {
    consumer: ARef<Device>,
    supplier: ARef<Device>,
}

impl DeviceLink {
    /// Links two devices. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the supplier is not registered, depends on the consumer, or is the consumer; or
    /// there is no memory (the C function does not say which).
    pub(crate) fn new(consumer: &Device, supplier: &Device) -> Result<Self> {
        // SAFETY: Both devices are valid, and the link takes references of its own.
        let link =
            unsafe { bindings::device_link_add(as_raw(consumer), as_raw(supplier), STATELESS) };
        if link.is_null() {
            return Err(EINVAL);
        }
        Ok(Self {
            consumer: ARef::from(consumer),
            supplier: ARef::from(supplier),
        })
    }
}

impl Drop for DeviceLink {
    fn drop(&mut self) {
        // The driver core has removed the link already if one of the devices was unregistered.
        //
        // SAFETY: We hold references to both devices. The link is stateless and `new` took its
        // reference, which this gives back.
        unsafe {
            bindings::device_link_remove(as_raw(&self.consumer).cast(), as_raw(&self.supplier));
        }
    }
}

/// Returns the C device, of which `Device` is a transparent wrapper.
fn as_raw(device: &Device) -> *mut bindings::device {
    core::ptr::from_ref(device).cast_mut().cast()
}
