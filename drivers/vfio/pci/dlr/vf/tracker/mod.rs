// SPDX-License-Identifier: GPL-2.0

//! Dirty logging of a data function by its log ring ("Dirty log" in
//! `Documentation/hardware/dlr-contract.rst`, whose rules the comments cite).
//!
//! ```text
//!  device ──▶ ring ── drain ──▶ crate::vfio::dirty::log::Log
//!             (entries)
//! ```
//!
//! The layer's [`Log`] has all that a log needs on any hardware. This module has what is specific
//! to DLR: the ring, the SYNC and its marker, and the handling of a full ring.

#[cfg(dlr_bench)]
pub(crate) mod bench;
mod device;
mod drain;
#[cfg(CONFIG_KUNIT = "y")]
mod log_fake;
#[cfg(CONFIG_KUNIT = "y")]
mod log_tests;
#[cfg(CONFIG_KUNIT = "y")]
mod model;
#[cfg(CONFIG_KUNIT = "y")]
mod model_setup;
#[cfg(CONFIG_KUNIT = "y")]
mod model_tests;
#[cfg(CONFIG_KUNIT = "y")]
mod model_vmm;
mod ring;
mod stale;
mod stats;

use crate::{
    mgmt::Function,
    vfio::dirty::log::Log, //
};
pub(crate) use ring::{
    Context,
    LogParams,
    Ring,
    RingShared, //
};

/// The tracker of a data function.
pub(crate) type FunctionRing = Ring<Function>;

/// The log of a data function.
pub(crate) type Logging = Log<FunctionRing>;
