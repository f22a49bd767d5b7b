// SPDX-License-Identifier: GPL-2.0

//! The layer on which VFIO variant drivers are built. Each driver's crate has it as a module.
//!
//! The files of the layer name each other as `crate::bindings`, `crate::ext` and `crate::vfio`, so
//! the root of the crate imports these three.
//!
//! # Examples
//!
//! From `samples/vfio/main.rs`:
//!
//! ```ignore
//! #[path = "../../drivers/vfio/rust/mod.rs"]
//! mod layer;
//!
//! use layer::{bindings, ext, vfio};
//! ```

#![allow(unsafe_code, reason = "safe wrappers of VFIO and of the kernel")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the layer offers more than one driver needs"
)]

pub(crate) mod bindings;
pub(crate) mod ext;
pub(crate) mod vfio;
