// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The DLR hardware contract for user space.
//!
//! [`abi`] is generated from `include/uapi/linux/dlr.h`, the same file that the
//! kernel driver generates its own view from. Names, values and layouts are
//! documented there; this crate adds only the proof of the layouts.

#![forbid(unsafe_code)]

/// Generated constants and structures, under the names of the header.
///
/// Fields are little-endian; the crate refuses to build elsewhere, so that no
/// conversion can be forgotten.
#[allow(missing_docs, non_camel_case_types, clippy::all)]
pub mod abi {
    include!(concat!(env!("OUT_DIR"), "/dlr.rs"));
}

#[cfg(not(target_endian = "little"))]
compile_error!("the DLR structures are used in place and need a little-endian machine");

const _: () = {
    assert!(size_of::<abi::dlr_sqe>() == 64);
    assert!(size_of::<abi::dlr_cqe>() == 16);
    assert!(size_of::<abi::dlr_level_params>() == 40);
    assert!(size_of::<abi::dlr_attest_params>() == 40);
    assert!(size_of::<abi::dlr_save_begin_params>() == 40);
    assert!(size_of::<abi::dlr_log_start_params>() == 40);
    assert!(size_of::<abi::dlr_log_sync_params>() == 40);
    assert!(size_of::<abi::dlr_range>() == 16);
    assert!(size_of::<abi::dlr_identify_nic>() == 64);
    assert!(size_of::<abi::dlr_identify_fn>() == 64);
    assert!(size_of::<abi::dlr_status_page>() == abi::DLR_STATUS_PAGE_SIZE as usize);
    assert!(size_of::<abi::dlr_section>() == 32);
    assert!(size_of::<abi::dlr_stream_header>() == 32);
    assert!(size_of::<abi::dlr_stream_trailer>() == 16);
};
