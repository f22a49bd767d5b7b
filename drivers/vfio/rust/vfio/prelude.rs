// SPDX-License-Identifier: GPL-2.0

//! The items of the layer that a variant driver needs, for `use crate::vfio::prelude::*`. Drivers
//! with a log ring or sessions of their own import more.

pub(crate) use super::{
    bar::{
        Bar,
        BarSet,
        HeldBar, //
    },
    bar_state::{
        BarState,
        Part, //
    },
    call::{
        Described,
        Ioctl,
        Mmap,
        RegionInfo, //
    },
    config_space::ConfigRange,
    dirty::{
        log::Log,
        marks::Dirty,
        tracker::{
            Limits,
            Start,
            Tracker, //
        },
        writes::Writes,
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
            LoadSink,
            LoadStart, //
        },
        machine::Machine,
        save::{
            SaveSource,
            SaveStart, //
        },
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
        RegisterWrite,
        Write, //
    },
    DeviceId, IdTable, OpenDevice, PciFunction,
};
