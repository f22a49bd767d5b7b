// SPDX-License-Identifier: GPL-2.0

//! The message about a failed probe.
//!
//! C header: [`include/linux/dev_printk.h`](srctree/include/linux/dev_printk.h)

use kernel::{
    bindings,
    device::Device,
    prelude::*,
    str::CStrExt as _, //
};

/// Logs why probe fails with `error`, by `dev_err_probe()`. For `EPROBE_DEFER`, which is retried
/// each time that another driver binds, the reason goes to `<debugfs>/devices_deferred` and is
/// logged at debug level.
pub(crate) fn say_why(device: &Device, error: Error, why: &CStr) {
    // SAFETY: `device` is valid, and the format takes the one string that follows.
    unsafe {
        bindings::dev_err_probe(
            core::ptr::from_ref(device).cast(),
            error.to_errno(),
            c"%s\n".as_char_ptr(),
            why.as_char_ptr(),
        );
    }
}
