// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `info`: what one device can do.

use std::io;

use anyhow::Result;
use rustix::io::Errno;
use serde::Serialize;
use vfio_bindings::bindings::vfio as vb;

use crate::{
    advice::{one_line, refused},
    device::{Backend, Device, Direction},
    discover::Sysfs,
    node::Node,
    output::{table, Report},
    range::{human_size, IovaRange},
    session::Migratable,
    state::{MigrationFlags, State},
};

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,
}

/// One feature of `VFIO_DEVICE_FEATURE`.
#[derive(Debug, Serialize)]
pub struct Feature {
    name: &'static str,
    get: bool,
    set: bool,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Info {
    #[serde(flatten)]
    node: Node,
    backend: Backend,
    features: Vec<Feature>,
    migration_flags: Vec<String>,
    state: Option<State>,
    /// Bytes that a save would read now.
    data_size: Option<u64>,
    precopy_info_v2: bool,
    dma_logging: bool,
    /// Bytes per page of the log when 4 KiB are asked for.
    log_granule: Option<u64>,
    migratable: bool,
    /// What stands in the way, of migration at all or of a good one.
    obstacles: Vec<String>,
}

impl Report for Info {
    fn human(&self) -> String {
        let dash = || "-".to_owned();
        let yes_no = |b: bool| if b { "yes" } else { "no" }.to_owned();
        let mut rows = vec![
            ["device".into(), self.node.name.clone()],
            [
                "PCI id".into(),
                self.node.pci_id.clone().unwrap_or_else(dash),
            ],
            [
                "driver".into(),
                self.node.driver.clone().unwrap_or_else(dash),
            ],
            [
                "group".into(),
                self.node.group.map_or_else(dash, |g| g.to_string()),
            ],
            ["cdev".into(), self.node.cdev.clone().unwrap_or_else(dash)],
            [
                "opened by".into(),
                format!("{:?}", self.backend).to_lowercase(),
            ],
            ["migration".into(), self.migration_flags.join(", ")],
            [
                "state".into(),
                self.state.map_or_else(dash, |s| s.to_string()),
            ],
            [
                "state size".into(),
                self.data_size.map_or_else(dash, human_size),
            ],
            ["PRECOPY_INFOv2".into(), yes_no(self.precopy_info_v2)],
            ["DMA logging".into(), yes_no(self.dma_logging)],
            [
                "log granule".into(),
                self.log_granule.map_or_else(dash, human_size),
            ],
            ["migratable".into(), yes_no(self.migratable)],
        ];
        for obstacle in &self.obstacles {
            rows.push(["  note".into(), obstacle.clone()]);
        }
        for Feature { name, get, set } in &self.features {
            let ways = [(get, "get"), (set, "set")];
            let ways: Vec<&str> = ways.iter().filter(|(has, _)| **has).map(|w| w.1).collect();
            if !ways.is_empty() {
                rows.push([format!("feature {name}"), ways.join(", ")]);
            }
        }
        table(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
    }
}

/// What a device without DMA logging means.
pub const NO_DMA_LOGGING: &str =
    "no DMA logging: only with an IOMMU that tracks dirty pages, else QEMU blocks migration";

/// Why a device cannot be migrated live, in the order in which a VMM would find out.
///
/// # Errors
///
/// The reason.
pub fn verdict(
    node: &Node,
    migration: Result<MigrationFlags, i32>,
    logging: bool,
) -> Result<(), String> {
    let driver = node.driver.as_deref().unwrap_or("its driver");
    match migration {
        Err(errno) if errno == Errno::NOTTY.raw_os_error() => Err(format!(
            "{driver} has no migration support for it (feature MIGRATION: ENOTTY){}",
            if driver == "vfio-pci" {
                "; a variant driver is needed: `grep vfio_pci: /lib/modules/$(uname -r)/modules.alias` \
                 shows which there are, and for which devices"
            } else {
                "; see the kernel log of when it was bound"
            }
        )),
        Err(errno) => Err(format!(
            "the kernel does not tell its migration features: {}",
            io::Error::from_raw_os_error(errno)
        )),
        Ok(flags) if !flags.stop_copy() => Err("it has no STOP_COPY".to_owned()),
        Ok(_) if !logging => Err(NO_DMA_LOGGING.to_owned()),
        Ok(_) => Ok(()),
    }
}

const FEATURES: [(&str, u32); 12] = [
    ("PCI_VF_TOKEN", vb::VFIO_DEVICE_FEATURE_PCI_VF_TOKEN),
    ("MIGRATION", vb::VFIO_DEVICE_FEATURE_MIGRATION),
    ("MIG_DEVICE_STATE", vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
    ("LOW_POWER_ENTRY", vb::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY),
    ("LOW_POWER_EXIT", vb::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT),
    (
        "DMA_LOGGING_START",
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
    ),
    ("DMA_LOGGING_STOP", vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
    (
        "DMA_LOGGING_REPORT",
        vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
    ),
    ("MIG_DATA_SIZE", vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE),
    ("BUS_MASTER", vb::VFIO_DEVICE_FEATURE_BUS_MASTER),
    ("DMA_BUF", vb::VFIO_DEVICE_FEATURE_DMA_BUF),
    (
        "MIG_PRECOPY_INFOv2",
        vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
    ),
];

/// Looks at one device.
///
/// # Errors
///
/// There is no such device, or it cannot be opened.
pub fn run(args: &Args, backend: Backend) -> Result<Info> {
    let node = Sysfs::default().find(&args.device)?;
    let device = Device::open(&node, backend)?;
    let features = FEATURES.map(|(name, index)| Feature {
        name,
        get: device.probe(Direction::Get, index),
        set: device.probe(Direction::Set, index),
    });
    let flags = device.flags();
    let dma_logging = device.has_logging();
    let mut obstacles: Vec<String> = verdict(&node, device.migration(), dma_logging)
        .err()
        .into_iter()
        .collect();
    let sample = IovaRange {
        iova: 0,
        length: 2 << 20,
    };
    let log_granule = match device.log_start(4096, &[sample]) {
        Ok(log) => Some(log.granule()),
        Err(e) if dma_logging => {
            obstacles.push(one_line(&refused("DMA logging cannot be had", &e)));
            None
        }
        Err(_) => None,
    };
    if flags.stop_copy() && !flags.p2p() {
        obstacles.push("no P2P: cannot be migrated together with other devices".to_owned());
    }
    let state = device.state();
    if let Err(e) = state.as_ref() {
        if flags.stop_copy() {
            obstacles.push(one_line(&refused("its state cannot be had", e)));
        }
    }
    let data_size = device.data_size();
    if flags.stop_copy() && matches!(data_size, Ok(0)) {
        obstacles.push("says that its state has 0 bytes: QEMU refuses that".to_owned());
    }
    Ok(Info {
        backend: device.backend(),
        features: features.into(),
        migration_flags: flags.names(),
        state: state.ok(),
        data_size: data_size.ok(),
        precopy_info_v2: device.probe(Direction::Set, vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2),
        dma_logging,
        log_granule,
        migratable: flags.stop_copy(),
        obstacles,
        node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_named() {
        let bound = |driver: &str| Node {
            driver: Some(driver.to_owned()),
            ..Node::default()
        };
        let node = bound("vfio-pci");
        let why = |migration, logging| verdict(&node, migration, logging).expect_err("a reason");
        assert!(why(Err(25), false).contains("variant driver"));
        assert!(why(Err(5), false).contains("Input/output"));
        assert!(why(Ok(MigrationFlags(0)), true).contains("STOP_COPY"));
        assert!(why(Ok(MigrationFlags(7)), false).contains("DMA logging"));
        assert_eq!(verdict(&node, Ok(MigrationFlags(7)), true), Ok(()));
        // It has a variant driver already.
        let variant = verdict(&bound("dlr_vfio_pci"), Err(25), false).expect_err("a reason");
        assert!(variant.starts_with("dlr_vfio_pci has no"), "{variant}");
        assert!(!variant.contains("variant driver"), "{variant}");
    }
}
