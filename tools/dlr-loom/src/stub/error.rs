// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Errors, and flags of allocations.

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Error(i32);
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;
pub(crate) const EINVAL: Error = Error(22);
pub(crate) const GFP_KERNEL: () = ();
