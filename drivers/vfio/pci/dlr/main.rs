// SPDX-License-Identifier: GPL-2.0

//! Live migration of NIC functions that implement the dirty-log ring (DLR) contract.
//!
//! Two PCI drivers in one module: one for the management function of a NIC, which every command goes
//! through, and a vfio-pci variant driver for its data functions, which is what users see.
//!
//! `unsafe` code is confined to `drivers/vfio/rust`; the modules of this folder forbid it.

#![crate_name = "dlr_vfio_pci"]
#![deny(unsafe_code)]

use kernel::{
    driver,
    pci,
    prelude::*,
    InPlaceModule, //
};

#[path = "../../rust/bindings/mod.rs"]
#[allow(unsafe_code, reason = "raw bindings")]
#[allow(
    dead_code,
    unused_imports,
    reason = "the layer offers more than one driver needs"
)]
mod bindings;
#[path = "../../rust/kext/mod.rs"]
#[allow(unsafe_code, reason = "safe wrappers of kernel interfaces")]
#[allow(
    dead_code,
    unused_imports,
    reason = "the layer offers more than one driver needs"
)]
mod kext;
#[path = "../../rust/vfio/mod.rs"]
#[allow(unsafe_code, reason = "safe wrappers of VFIO")]
#[allow(
    dead_code,
    unused_imports,
    reason = "the layer offers more than one driver needs"
)]
mod vfio;

mod mgmt;
mod params;
#[allow(
    dead_code,
    unused_imports,
    reason = "the contract has more than this driver uses"
)]
mod proto;
mod vf;

module! {
    type: Dlr,
    name: "dlr_vfio_pci",
    authors: ["The dlr project"],
    description: "VFIO live migration for NICs with a dirty-log ring",
    license: "GPL",
    imports_ns: ["IOMMUFD"],
    params: {
        log_ring_order: u32 {
            default: 16,
            description: "log2 of the entries of a dirty-log ring, 4..19",
        },
        save_buffers: u32 {
            default: 4,
            description: "buffers of a save session, 2..64",
        },
        save_buffer_kib: u32 {
            default: 256,
            description: "KiB of one such buffer, a multiple of 4, 4..4096",
        },
    },
}

/// The module. Dropped in the order of the fields, initialised in the order of `init`.
#[pin_data]
struct Dlr {
    /// First: the commands of data functions go through the management functions.
    #[pin]
    _vf: driver::Registration<vfio::pci::Adapter<vf::Vf>>,
    #[pin]
    _mgmt: driver::Registration<pci::Adapter<mgmt::Driver>>,
    /// Last: everything above has its files in there.
    _debugfs: kext::debugfs::Root,
}

impl InPlaceModule for Dlr {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            params::Config::load()?;
            mgmt::init()?;
            Ok(try_pin_init!(Self {
                _debugfs: kext::debugfs::Root::new(c"dlr_vfio_pci")?,
                _mgmt <- driver::Registration::new(c"dlr-mgmt", module),
                _vf <- driver::Registration::new(c"dlr_vfio_pci", module),
            }))
        })
    }
}
