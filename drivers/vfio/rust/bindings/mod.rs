// SPDX-License-Identifier: GPL-2.0

//! Raw bindings: VFIO and the few other kernel interfaces that `kernel::bindings` lacks, and the
//! constants and structs of the hardware contract.
//!
//! The C functions are for `kext` and `vfio` only (calling one is `unsafe`). [`dlr`] is plain data and
//! may be used by everybody.

#[allow(warnings, clippy::all, unsafe_op_in_unsafe_fn)]
mod vfio {
    include!("vfio_generated.rs");

    extern "C" {
        /// `vfio_put_device()`, an inline function.
        #[link_name = "rust_helper_vfio_put_device"]
        pub(crate) fn vfio_put_device(vdev: *mut vfio_device);
        /// The C compiler's view of the layouts, see `layout.rs`.
        pub(crate) fn rust_helper_vfio_layout(index: ffi::c_uint) -> usize;
    }
}

/// The hardware contract, generated from `include/uapi/linux/dlr.h`. Fields are little-endian as in
/// memory; convert with `from_le`/`to_le`.
#[allow(warnings, clippy::all)]
pub(crate) mod dlr {
    include!("dlr_generated.rs");
}

pub(crate) use vfio::*;

mod layout;
