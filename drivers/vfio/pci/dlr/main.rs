// SPDX-License-Identifier: GPL-2.0

//! VFIO live migration for NICs that implement the dirty-log ring (DLR) contract.
//!
//! The module registers two PCI drivers: [`mgmt`] for the management function of a NIC, which
//! executes every command of the contract, and [`vf`], a vfio-pci variant driver for the data
//! functions that users open.
//!
//! `unsafe` code is confined to `drivers/vfio/rust`. The modules of this folder forbid it, except
//! for `trace`, where a macro of the layer expands to `unsafe` code.

#![crate_name = "dlr_vfio_pci"]
#![deny(unsafe_code)]

use kernel::{
    driver,
    prelude::*,
    InPlaceModule, //
};

#[path = "../../rust/mod.rs"]
mod layer;
mod mgmt;
mod params;
mod proto;
mod trace;
mod vf;

use layer::{bindings, ext, vfio};

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
            description: "log2 of the number of entries of a dirty-log ring, 4..19",
        },
        log_memory_mib: u32 {
            default: 0,
            description: "limit of the bitmap of one log in MiB, 0 for 1.2 bits per tracked page",
        },
        save_buffers: u32 {
            default: 4,
            description: "number of buffers of a save session, 2..64",
        },
        save_buffer_kib: u32 {
            default: 256,
            description: "size of one such buffer in KiB, a multiple of 4, 4..4096",
        },
    },
}

/// The module. Its fields are dropped in the order of their declaration and initialised in the
/// order of `init`.
#[pin_data]
struct Dlr {
    /// Dropped first, so that `unbind` of a management function sees that the module is being
    /// unloaded.
    _leaving: mgmt::Leaving,
    /// Dropped before `_mgmt`: the data functions submit their last commands through the management
    /// functions.
    #[pin]
    _vf: driver::Registration<vfio::Adapter<vf::Vf>>,
    #[pin]
    _mgmt: driver::Registration<ext::pci_driver::Adapter<mgmt::Driver>>,
    /// Dropped last: the drivers above have files in this directory.
    _debugfs: ext::debugfs::Root,
}

impl InPlaceModule for Dlr {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            #[cfg(vfio_bench)]
            vfio::bench::ring::run::<proto::log::LogWord>();
            params::Config::load()?;
            mgmt::init()?;
            Ok(try_pin_init!(Self {
                _debugfs: ext::debugfs::Root::new(c"dlr_vfio_pci")?,
                _mgmt <- driver::Registration::new(c"dlr-mgmt", module),
                _leaving: mgmt::Leaving,
                _vf <- driver::Registration::new(c"dlr_vfio_pci", module),
            }))
        })
    }
}
