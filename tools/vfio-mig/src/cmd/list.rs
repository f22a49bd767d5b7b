// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `list`: the devices of this machine.

use serde::Serialize;

use super::info::verdict;
use crate::{
    device::{Backend, Device},
    discover::{unbound_reason, Node, Sysfs},
    output::{table, Report},
    state::MigrationFlags,
};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also PCI functions that are not meant for VFIO.
    #[arg(long)]
    all: bool,

    /// Do not open devices (opening one resets it) where debugfs does not tell.
    #[arg(long)]
    no_open: bool,
}

/// One device.
#[derive(Debug, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    node: Node,
    /// `None`: not known.
    migratable: Option<bool>,
    /// The migration features, or why there are none.
    details: String,
}

/// The list.
#[derive(Debug, Serialize)]
pub struct List {
    devices: Vec<Entry>,
}

impl Report for List {
    fn human(&self) -> String {
        if self.devices.is_empty() {
            return "no VFIO devices; `vfio-mig list --all` shows all that could be\n".to_owned();
        }
        let head = ["DEVICE", "ID", "DRIVER", "GROUP", "CDEV", "MIGRATABLE", ""];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let or_dash = |s: &Option<String>| s.clone().unwrap_or_else(|| "-".to_owned());
        for Entry {
            node,
            migratable,
            details,
        } in &self.devices
        {
            rows.push(vec![
                node.name.clone(),
                or_dash(&node.pci_id),
                or_dash(&node.driver),
                or_dash(&node.group.map(|g| g.to_string())),
                or_dash(&node.cdev),
                match migratable {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "unknown",
                }
                .to_owned(),
                details.clone(),
            ]);
        }
        table(&rows)
    }
}

fn judge(sysfs: &Sysfs, node: &Node, args: &Args, backend: Backend) -> (Option<bool>, String) {
    if !node.vfio {
        return (Some(false), unbound_reason(node));
    }
    if let Some(info) = sysfs.debug_info(node) {
        return (
            Some(true),
            format!("{} ({})", info.features.join(", "), info.state),
        );
    }
    if sysfs.has_debug() {
        let driver = node.driver.as_deref().unwrap_or("its driver");
        return (
            Some(false),
            format!("{driver} has no migration support for it"),
        );
    }
    if args.no_open {
        return (
            None,
            "debugfs does not tell and --no-open was given".to_owned(),
        );
    }
    match Device::open(node, backend) {
        Ok(device) => {
            let migration = device.migration();
            let flags = migration.unwrap_or(MigrationFlags(0));
            let details = match verdict(migration, device.has_logging()) {
                Ok(()) => flags.names().join(", "),
                Err(why) => why,
            };
            (Some(flags.stop_copy()), details)
        }
        Err(e) => (None, format!("{e:#}")),
    }
}

/// Lists the devices.
pub fn run(args: &Args, backend: Backend) -> List {
    let sysfs = Sysfs::default();
    let entry = |node: Node| {
        let (migratable, details) = judge(&sysfs, &node, args, backend);
        Entry {
            node,
            migratable,
            details,
        }
    };
    List {
        devices: sysfs.nodes(args.all).into_iter().map(entry).collect(),
    }
}
