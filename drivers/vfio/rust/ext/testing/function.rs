// SPDX-License-Identifier: GPL-2.0

//! A PCI function for KUnit tests, whose configuration space is memory.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Bound,
    ffi, pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Number of dwords of configuration space.
const DWORDS: usize = 1024;

/// A function on a bus of its own. The PCI core knows neither. The function counts as bound, is in
/// D0, and runtime PM may suspend it.
pub(crate) struct FakeFunction {
    parts: NonNull<Parts>,
    _memory: KBox<MaybeUninit<Parts>>,
}

/// All zeros is valid for all of it.
struct Parts {
    pdev: bindings::pci_dev,
    bus: bindings::pci_bus,
    ops: bindings::pci_ops,
    config: [u32; DWORDS],
    /// Number of reads that runtime PM did not have to keep the function in D0 for.
    unguarded: Atomic<u32>,
}

impl FakeFunction {
    /// Makes a function whose configuration space is all zeros.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let mut memory = KBox::<Parts>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let parts = memory.as_mut_ptr();
        // SAFETY: The memory is valid for writes, and all zeros is valid for the C structs, which
        // are plain data and raw pointers. The memory does not move, and `drop` disables runtime PM
        // before it is freed.
        unsafe {
            (*parts).ops.read = Some(read);
            (*parts).bus.ops = &raw mut (*parts).ops;
            (*parts).bus.sysdata = parts.cast();
            (*parts).pdev.bus = &raw mut (*parts).bus;
            (*parts).pdev.cfg_size = (4 * DWORDS) as c_int;
            let dev = &raw mut (*parts).pdev.dev;
            bindings::device_initialize(dev);
            // `drop` releases what a driver leaves to devres.
            if bindings::devres_open_group(dev, parts.cast(), bindings::GFP_KERNEL).is_null() {
                return Err(ENOMEM);
            }
            #[cfg(CONFIG_PM)]
            {
                bindings::__pm_runtime_set_status(dev, bindings::rpm_status_RPM_ACTIVE as c_uint);
                bindings::pm_runtime_enable(dev);
            }
        }
        Ok(Self {
            parts: NonNull::new(parts).ok_or(EINVAL)?,
            _memory: memory,
        })
    }

    /// Sets dwords of configuration space from `offset` on, a multiple of 4.
    ///
    /// # Errors
    ///
    /// `EINVAL` beyond the end.
    pub(crate) fn set_config(&mut self, offset: usize, dwords: &[u32]) -> Result {
        // SAFETY: `new` has initialised the parts, and only this function uses them now.
        let config = unsafe { &mut (*self.parts.as_ptr()).config };
        let to = config.get_mut(offset / 4..).ok_or(EINVAL)?;
        let to = to.get_mut(..dwords.len()).ok_or(EINVAL)?;
        to.copy_from_slice(dwords);
        Ok(())
    }

    /// Lets the PCI core know that the function is gone.
    pub(crate) fn disconnect(&mut self) {
        // SAFETY: As in `set_config`.
        unsafe {
            (*self.as_raw()).error_state =
                bindings::pci_channel_io_perm_failure as bindings::pci_channel_state_t;
        }
    }

    /// Returns the C device.
    pub(crate) fn as_raw(&self) -> *mut bindings::pci_dev {
        // SAFETY: The memory is valid; this only computes an address in it.
        unsafe { &raw mut (*self.parts.as_ptr()).pdev }
    }

    /// Returns the function.
    pub(crate) fn bound(&self) -> &pci::Device<Bound> {
        // SAFETY: `pci::Device` is transparent over `pci_dev`, and the function lives as long as
        // `self`.
        unsafe { &*self.as_raw().cast::<pci::Device<Bound>>() }
    }

    /// Returns how many reads came without a runtime PM reference. Without runtime PM it is 0.
    pub(crate) fn unguarded_reads(&self) -> u32 {
        // SAFETY: `new` has initialised the parts.
        unsafe { &(*self.parts.as_ptr()).unguarded }.load(Relaxed)
    }
}

impl Drop for FakeFunction {
    fn drop(&mut self) {
        // SAFETY: Undoes what `new` did, and waits for runtime PM to leave the device.
        unsafe {
            let dev = &raw mut (*self.as_raw()).dev;
            bindings::devres_release_group(dev, self.parts.as_ptr().cast());
            #[cfg(CONFIG_PM)]
            bindings::__pm_runtime_disable(dev, false);
        }
    }
}

/// `pci_ops.read`.
///
/// # Safety
///
/// The bus is the one of a [`FakeFunction`], and `value` is valid for a write.
unsafe extern "C" fn read(
    bus: *mut bindings::pci_bus,
    _devfn: ffi::c_uint,
    at: ffi::c_int,
    size: ffi::c_int,
    value: *mut u32,
) -> ffi::c_int {
    // SAFETY: `FakeFunction::new` stored the address of its parts.
    let parts = unsafe { (*bus).sysdata.cast::<Parts>() };
    #[cfg(CONFIG_PM)]
    // SAFETY: The parts are valid. The tests are the only users of the count.
    unsafe {
        if (*parts).pdev.dev.power.usage_count.counter == 0 {
            (*parts).unguarded.fetch_add(1, Relaxed);
        }
    }
    let at = at.unsigned_abs() as usize;
    // SAFETY: The parts are valid, and do not change while a read runs.
    let config = unsafe { &(*parts).config };
    let dword = config.get(at / 4).copied();
    let Some(dword) = dword else {
        return bindings::PCIBIOS_BAD_REGISTER_NUMBER as c_int;
    };
    let shifted = dword >> (8 * (at % 4));
    // SAFETY: By the requirements of this function.
    unsafe {
        *value = match size {
            1 => shifted & 0xff,
            2 => shifted & 0xffff,
            _ => shifted,
        }
    };
    0
}
