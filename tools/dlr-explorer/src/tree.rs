// SPDX-License-Identifier: Apache-2.0 OR MIT

// The modules of a crate that explores one copy of the files, which its macro `copied!` takes in.
// `crate::` paths in the files make this the root of the crate.

#[macro_use]
mod stub;
pub(crate) use stub::*;

#[allow(unused_imports)]
pub(crate) use dlr_copies::bugs;

mod clock;
mod explore;
mod refine;
mod stops;
mod world;

pub(crate) mod vfio {
    #[allow(dead_code, unused, unreachable_pub, clippy::all)]
    pub(crate) mod dirty {
        copied!("dirty/mod.rs");
    }
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod iova_bitmap {
        copied!("iova_bitmap.rs");
    }
}

pub(crate) mod ext {
    pub(crate) use crate::stub::ext::*;
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod lookup {
        copied!("lookup.rs");
    }
    pub(crate) mod cmdq {
        #[allow(dead_code, unused, clippy::all)]
        pub(crate) mod ring {
            copied!("cmdq_ring.rs");
        }
    }
}

pub(crate) mod proto {
    pub(crate) use dlr_abi::abi as dlr;
    /// As in the driver's `proto/mod.rs`.
    pub(crate) const LOG_RING_ORDERS: std::ops::RangeInclusive<u32> =
        dlr::DLR_LOG_RING_MIN_ORDER..=dlr::DLR_LOG_RING_MAX_ORDER;
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod log {
        copied!("proto_log.rs");
    }
}

// The NIC.
#[allow(dead_code, unused, missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod nic {
    copied!("nic/mod.rs");
}
#[allow(dead_code, unused, clippy::all)]
pub(crate) mod status {
    copied!("status.rs");
}
#[allow(dead_code, unused, clippy::all)]
pub(crate) mod kick {
    copied!("kick.rs");
}
