// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::prelude`.

pub(crate) use super::{
    alloc::{KBox, KVec, GFP_KERNEL},
    error::{
        Error, Result, EBUSY, EINTR, EINVAL, EIO, ENOMEM, ENOSPC, ENOTCONN, EOPNOTSUPP, EOVERFLOW,
    },
    init::{pin_init, PinInit},
};
pub(crate) use std::ffi::CStr;
