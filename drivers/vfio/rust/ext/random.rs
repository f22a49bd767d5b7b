// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)

use kernel::bindings;

/// Returns 64 random bits. Can be called from any context; does not wait until the generator is
/// seeded.
pub(crate) fn random_u64() -> u64 {
    // SAFETY: The function has no precondition.
    unsafe { bindings::get_random_u64() }
}
