// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the driver's files use of the kernel crate and of the rest of the layer.
//!
//! Allocations succeed, one thread runs, and no time passes.

pub(crate) mod alloc;
pub(crate) mod bitfield;
pub(crate) mod dma;
pub(crate) mod error;
#[macro_use]
pub(crate) mod init;
pub(crate) mod io;
pub(crate) mod ext;
pub(crate) mod prelude;
pub(crate) mod rbtree;
pub(crate) mod sync;
pub(crate) mod time;

pub(crate) use bitfield::bitfield;
pub(crate) use sync::{new_mutex, new_mutex as new_spinlock};

/// The layer's bindings of C, of which the files use nothing that is not cut.
pub(crate) mod bindings {}

macro_rules! static_assert {
    ($($condition:tt)*) => {
        const _: () = assert!($($condition)*);
    };
}

macro_rules! warn_on {
    ($condition:expr) => {{
        let warned = $condition;
        assert!(!warned, "WARN_ON");
        warned
    }};
}
pub(crate) use warn_on;
