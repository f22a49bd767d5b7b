// SPDX-License-Identifier: GPL-2.0

//! Constants and structs of the contract, which bindgen generates from `include/uapi/linux/dlr.h`.

#![allow(warnings, clippy::all, reason = "generated")]

include!("dlr_generated.rs");
