// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `list`: the devices of this machine.

use serde::Serialize;

use super::info::{verdict, NO_DMA_LOGGING};
use crate::{
    advice::{one_line, shared_group, unbound_reason, NO_IOMMU},
    device::{Backend, Device},
    discover::{Debug, DebugInfo, Sysfs},
    node::Node,
    output::{table, Report},
    session::Migratable,
    state::MigrationFlags,
};

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also PCI functions that are not meant for VFIO.
    #[arg(long)]
    all: bool,

    /// Open the devices of which debugfs does not tell: those that are not in use are reset.
    #[arg(long)]
    open: bool,
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
    /// Whether those are in it that are not meant for VFIO.
    #[serde(skip)]
    all: bool,
}

impl Report for List {
    fn human(&self) -> String {
        if self.devices.is_empty() && self.all {
            return format!("no device has an IOMMU group: {NO_IOMMU}\n");
        }
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

/// What debugfs tells, in words.
fn told(info: &DebugInfo) -> String {
    let state = match &info.state {
        Ok(Some(state)) => state,
        Ok(None) => "state not told",
        Err(why) => &format!("its state cannot be read: {why}"),
    };
    let features = match &info.features {
        Ok(Some(features)) => features,
        Ok(None) => return format!("this kernel does not tell its features ({state})"),
        Err(why) => return format!("its features cannot be read: {why} ({state})"),
    };
    let mut words = format!("{} ({state})", features.join(", "));
    if !features.iter().any(|feature| feature == "dirty-tracking") {
        words += "; ";
        words += NO_DMA_LOGGING;
    }
    words
}

fn judge(sysfs: &Sysfs, node: &Node, args: &Args, backend: Backend) -> (Option<bool>, String) {
    if !node.vfio {
        return (
            Some(false),
            unbound_reason(node, &sysfs.host_neighbours(node)),
        );
    }
    let why = match sysfs.debug(node) {
        Debug::Migratable(info) => {
            let shared = shared_group(node, &sysfs.host_neighbours(node));
            let words: Vec<String> = [Some(told(&info)), shared].into_iter().flatten().collect();
            return (Some(true), words.join("; "));
        }
        Debug::NotMigratable => {
            let driver = node.driver.as_deref().unwrap_or("its driver");
            return (
                Some(false),
                format!("{driver} has no migration support for it"),
            );
        }
        Debug::Unknown(why) => why,
    };
    if !args.open {
        return (
            None,
            format!("{why}; `--open` asks the device, which resets it"),
        );
    }
    match Device::open(node, backend) {
        Ok(device) => {
            let migration = device.migration();
            let flags = migration.unwrap_or(MigrationFlags(0));
            let details = match verdict(node, migration, device.has_logging()) {
                Ok(()) => flags.names().join(", "),
                Err(why) => why,
            };
            (Some(device.flags().stop_copy()), details)
        }
        Err(e) => (None, one_line(&e)),
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
        all: args.all,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A device that is registered with VFIO, and its folder in debugfs.
    fn judged(files: &[(&str, &str)]) -> (Option<bool>, String) {
        let dir = tempfile::tempdir().expect("folder");
        let name = "0000:00:05.0";
        let debug = dir.path().join("sys/kernel/debug/vfio").join(name);
        for (file, text) in files {
            let path = debug.join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        let node = Node {
            name: name.into(),
            path: dir.path().join("sys/bus/pci/devices").join(name),
            vfio: true,
            ..Node::default()
        };
        let args = Args {
            all: false,
            open: false,
        };
        judge(&Sysfs::at(dir.path()), &node, &args, Backend::Auto)
    }

    #[test]
    fn kernels_that_tell_the_state_only_say_yes() {
        let (migratable, words) = judged(&[("migration/state", "RUNNING\n")]);
        assert_eq!(migratable, Some(true), "{words}");
        assert_eq!(words, "this kernel does not tell its features (RUNNING)");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_an_older_kernel() {
        let (migratable, words) = judged(&[
            ("migration/state", "RUNNING\n"),
            ("migration/features/folder", ""),
        ]);
        assert_eq!(migratable, Some(true));
        assert!(
            words.contains("migration/features: Is a directory"),
            "{words}"
        );
        assert!(words.ends_with("(RUNNING)"), "{words}");
        let (_, words) = judged(&[("migration/state/folder", "")]);
        assert!(words.contains("migration/state: Is a directory"), "{words}");
    }

    #[test]
    fn a_device_without_logging_is_told() {
        let told = |features| {
            judged(&[
                ("migration/state", "RUNNING\n"),
                ("migration/features", features),
            ])
        };
        let (migratable, words) = told("stop-copy\np2p\n");
        assert_eq!(migratable, Some(true));
        assert!(words.contains("no DMA logging"), "{words}");
        let (_, words) = told("stop-copy\ndirty-tracking\n");
        assert_eq!(words, "stop-copy, dirty-tracking (RUNNING)");
    }

    #[test]
    fn an_empty_list_says_what_to_do_next() {
        let said = |all| {
            let devices = Vec::new();
            List { devices, all }.human()
        };
        assert!(said(false).contains("`vfio-mig list --all`"));
        assert!(said(true).contains("intel_iommu=on"), "{}", said(true));
    }

    #[test]
    fn a_device_is_opened_only_when_asked() {
        let (migratable, words) = judged(&[]);
        assert_eq!(migratable, None, "{words}");
        assert!(words.contains("`--open` asks the device"), "{words}");
        let (migratable, _) = judged(&[("other", "")]);
        assert_eq!(migratable, Some(false));
    }
}
