// SPDX-License-Identifier: Apache-2.0 OR MIT

// The modules of a crate that tests one copy of the files, which its macro `copied!` takes in.
// `crate::` paths in the files make this the root of the crate.

#[macro_use]
mod stub;
pub(crate) use stub::{bindings, prelude};

#[allow(unused_imports)]
pub(crate) use dlr_copies::bugs;

mod contract;
mod driver;
#[path = "../../../samples/dlr-nic/fuzz/src/function.rs"]
#[allow(dead_code)]
mod function;
#[path = "../../../samples/dlr-nic/net/src/testing/guest.rs"]
mod guest;
mod hostile;
mod image;
mod judge;
mod nic;
mod random;
mod saved;
mod sections;

pub(crate) mod ext {
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod crc32c {
        copied!("crc32c.rs");
    }
}

pub(crate) mod proto {
    pub(crate) use dlr_abi::abi as dlr;
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod section {
        copied!("section.rs");
    }
}

pub(crate) mod vf {
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod framing {
        copied!("framing.rs");
    }
    #[allow(dead_code, unused, clippy::all)]
    pub(crate) mod stream {
        copied!("stream/mod.rs");
    }
}

pub(crate) mod vfio {
    pub(crate) mod migration {
        pub(crate) mod save {
            pub(crate) use crate::stub::StreamCheck;
        }
        #[allow(dead_code, unused, clippy::all)]
        pub(crate) mod framing {
            copied!("layer_framing.rs");
        }
    }
}
