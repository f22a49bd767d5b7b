// SPDX-License-Identifier: GPL-2.0

//! Allocation flags for which the `kernel` crate has no constant.
//!
//! C header: [`include/linux/gfp_types.h`](srctree/include/linux/gfp_types.h)

use crate::bindings;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

// SAFETY: `Flags` is a struct of one `u32` and nothing else, which holds the bits of a `gfp_t`
// (rust/kernel/alloc.rs); the compiler checks that the sizes are equal. Every bit is valid on its
// own.
const NORETRY: Flags =
    unsafe { core::mem::transmute::<u32, Flags>(bindings::VFIO_RUST_GFP_NORETRY) };

/// Returns the bits of `flags`. `BitOr` of `Flags` is not `const`.
const fn bits(flags: Flags) -> u32 {
    // SAFETY: `Flags` is a struct of one `u32`, see `NORETRY`.
    unsafe { core::mem::transmute::<Flags, u32>(flags) }
}

/// Flags for memory that a user makes the kernel allocate, and without which the kernel can go on.
/// The memory is charged to the memory cgroup of the user. The allocation may sleep and reclaim,
/// but fails early and without a warning. It does not start the OOM killer: with `__GFP_NORETRY`,
/// `__alloc_pages_slowpath()` and `try_charge_memcg()` give up before that.
pub(crate) const USER: Flags = {
    let all = bits(GFP_KERNEL_ACCOUNT) | bits(__GFP_NOWARN) | bits(NORETRY);
    // SAFETY: `Flags` is a struct of one `u32`, see `NORETRY`.
    unsafe { core::mem::transmute::<u32, Flags>(all) }
};

/// Flags as [`USER`] for what the device needs on behalf of all its users. The memory is charged to
/// no cgroup: the thread that allocates it may be that of an interrupt.
pub(crate) const DEVICE: Flags = {
    let all = bits(GFP_KERNEL) | bits(__GFP_NOWARN) | bits(NORETRY);
    // SAFETY: `Flags` is a struct of one `u32`, see `NORETRY`.
    unsafe { core::mem::transmute::<u32, Flags>(all) }
};

/// Flags for commands that stop the device, after an allocation with [`USER`] has failed: a few
/// hundred bytes, one at a time for each device, freed soon. The memory comes from the reserves and
/// is charged to no cgroup. The allocation neither sleeps nor reclaims, fails without a warning,
/// and does not start the OOM killer, which needs an allocation that may sleep.
pub(crate) const LAST_RESORT: Flags = {
    // SAFETY: `Flags` is a struct of one `u32`, see `NORETRY`.
    unsafe { core::mem::transmute::<u32, Flags>(bits(GFP_ATOMIC) | bits(__GFP_NOWARN)) }
};

#[kunit_tests(ext_gfp)]
mod tests {
    use super::*;

    #[test]
    fn user_is_accounted_quiet_and_gives_up() -> Result {
        for flag in [GFP_KERNEL, GFP_KERNEL_ACCOUNT, __GFP_NOWARN, NORETRY] {
            assert!(USER.contains(flag));
        }
        assert!(!(GFP_KERNEL_ACCOUNT | __GFP_NOWARN).contains(NORETRY));
        drop(KBox::new(1u64, USER)?);
        Ok(())
    }

    #[test]
    fn memory_for_the_device_is_quiet_gives_up_and_is_not_charged() -> Result {
        for flag in [GFP_KERNEL, __GFP_NOWARN, NORETRY] {
            assert!(DEVICE.contains(flag));
        }
        assert!(!DEVICE.contains(GFP_KERNEL_ACCOUNT));
        drop(KBox::new(1u64, DEVICE)?);
        Ok(())
    }

    /// The OOM killer needs direct reclaim, which `GFP_KERNEL` includes.
    #[test]
    fn the_last_resort_neither_reclaims_nor_charges() -> Result {
        assert!(LAST_RESORT.contains(__GFP_NOWARN));
        assert!(!LAST_RESORT.contains(GFP_KERNEL));
        assert!(!LAST_RESORT.contains(GFP_KERNEL_ACCOUNT));
        assert!(LAST_RESORT.contains(GFP_ATOMIC));
        drop(KBox::new(1u64, LAST_RESORT)?);
        Ok(())
    }
}
