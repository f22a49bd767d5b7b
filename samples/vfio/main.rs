// SPDX-License-Identifier: GPL-2.0

//! Sample variant drivers for devices that every QEMU emulates. They show how to use the layer
//! without `unsafe`.
//!
//! * [`edu`] implements `Tracker`: it logs DMA writes.
//! * [`bochs`] implements `Engine`: it migrates the device.
//!
//! `Documentation/first-migratable-device.rst` walks through them.

#![crate_name = "vfio_samples"]
#![deny(unsafe_code)]

use kernel::{
    driver::Registration,
    prelude::*, //
};

#[path = "../../drivers/vfio/rust/mod.rs"]
mod layer;

use layer::{bindings, ext, vfio};

#[forbid(unsafe_code)]
mod bochs;
#[forbid(unsafe_code)]
mod edu;

module! {
    type: Samples,
    name: "vfio_samples",
    authors: ["The dlr project"],
    description: "VFIO drivers for devices of QEMU",
    license: "GPL",
    imports_ns: ["IOMMUFD"],
}

#[pin_data]
struct Samples {
    #[pin]
    _bochs: Registration<vfio::Adapter<bochs::Bochs>>,
    #[pin]
    _edu: Registration<vfio::Adapter<edu::Edu>>,
}

impl kernel::InPlaceModule for Samples {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _bochs <- Registration::new(c"bochs_vfio_pci", module),
            _edu <- Registration::new(c"edu_vfio_pci", module),
        })
    }
}
