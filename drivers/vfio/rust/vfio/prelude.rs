// SPDX-License-Identifier: GPL-2.0

//! The items of the layer that a variant driver needs, for `use crate::vfio::prelude::*`.

pub(crate) use super::{
    bar::{
        Bar,
        BarSet,
        HeldBar, //
    },
    dirty::{
        log::Log,
        marks::Dirty,
        tracker::{
            Limits,
            Start,
            Tracker, //
        },
    },
    dma_logging::{
        self,
        Logged, //
    },
    driver::Adapter,
    iova_bitmap::IovaRange,
    migration::{
        self,
        accounting::Pending,
        engine::{
            Engine,
            WaitLimit, //
        },
        image::{
            Accepted,
            Format,
            Image,
            Snapshot, //
        },
        load::{
            LoadIo,
            LoadStart, //
        },
        machine::Machine,
        save::SaveStart,
        state::{
            Flags,
            RunLevel, //
        },
        Migratable, //
    },
    pci::{
        Capabilities,
        Operations, //
    },
    region::{
        Read,
        Write, //
    },
    DeviceId, IdTable, OpenDevice, PciFunction,
};
