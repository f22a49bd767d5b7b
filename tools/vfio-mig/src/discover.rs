// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What sysfs and debugfs tell of VFIO devices, without opening any.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
use serde::Serialize;

/// Root of the file systems; another one in tests.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

/// One device that is, or could be, used through VFIO.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// PCI address or mdev UUID: its name in sysfs.
    pub name: String,
    /// Its folder in sysfs.
    #[serde(skip)]
    pub path: PathBuf,
    /// `vendor:device`, for PCI.
    pub pci_id: Option<String>,
    /// Driver that it is bound to.
    pub driver: Option<String>,
    /// IOMMU group: `/dev/vfio/GROUP` is the legacy way in.
    pub group: Option<u32>,
    /// `vfioN`: `/dev/vfio/devices/vfioN` is the iommufd way in.
    pub cdev: Option<String>,
    /// The driver registered it with VFIO.
    pub vfio: bool,
    /// `driver_override`, when set.
    pub driver_override: Option<String>,
}

/// What debugfs says of a registered device's migration support.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DebugInfo {
    /// State that the driver reports, for example `RUNNING`.
    pub state: String,
    /// `stop-copy`, `p2p`, `pre-copy`, `dirty-tracking`.
    pub features: Vec<String>,
}

fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

impl Sysfs {
    /// With another root, for tests.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let name = path.file_name()?.to_str()?.to_owned();
        let id = |file| text(&path.join(file)).map(|s| s.trim_start_matches("0x").to_owned());
        let pci_id = id("vendor")
            .zip(id("device"))
            .map(|(v, d)| format!("{v}:{d}"));
        let cdev_folder = path.join("vfio-dev");
        let cdev = fs::read_dir(&cdev_folder)
            .ok()
            .and_then(|mut entries| entries.next()?.ok()?.file_name().into_string().ok());
        let group = link_name(&path.join("iommu_group")).and_then(|g| g.parse().ok());
        Some(Node {
            vfio: cdev_folder.is_dir(),
            driver: link_name(&path.join("driver")),
            driver_override: text(&path.join("driver_override"))
                .filter(|s| !s.is_empty() && s != "(null)"),
            path: path.to_owned(),
            name,
            pci_id,
            group,
            cdev,
        })
    }

    /// Every device registered with VFIO, then those that are meant for it (a
    /// `driver_override` that says vfio) but are not; with `all` every PCI function that has
    /// an IOMMU group. By name.
    pub fn nodes(&self, all: bool) -> Vec<Node> {
        let mut nodes: Vec<Node> = ["sys/bus/pci/devices", "sys/bus/mdev/devices"]
            .iter()
            .filter_map(|folder| fs::read_dir(self.path(folder)).ok())
            .flatten()
            .filter_map(|entry| self.node(&entry.ok()?.path()))
            .filter(|node| {
                let meant =
                    |name: &Option<String>| name.as_deref().is_some_and(|n| n.contains("vfio"));
                node.vfio
                    || meant(&node.driver)
                    || meant(&node.driver_override)
                    || (all && node.group.is_some())
            })
            .collect();
        nodes.sort_by(|a, b| (!a.vfio, &a.name).cmp(&(!b.vfio, &b.name)));
        nodes
    }

    /// The device that `what` names: PCI address with or without domain, mdev UUID, `vfioN`,
    /// `/dev/vfio/devices/vfioN`, or a folder in sysfs.
    ///
    /// # Errors
    ///
    /// There is no such device, or it is not registered with VFIO; says what to do.
    pub fn find(&self, what: &str) -> Result<Node> {
        let cdev = what.strip_prefix("/dev/vfio/devices/").unwrap_or(what);
        let mut candidates = vec![
            self.path("sys/bus/pci/devices").join(what),
            self.path("sys/bus/pci/devices")
                .join(format!("0000:{what}")),
            self.path("sys/bus/mdev/devices").join(what),
            self.path("sys/class/vfio-dev").join(cdev).join("device"),
        ];
        if what.starts_with("/sys/") {
            candidates.insert(0, PathBuf::from(what));
        }
        let path = candidates
            .iter()
            .find_map(|path| path.canonicalize().ok().filter(|p| p.is_dir()))
            .with_context(|| {
                format!(
                    "there is no device `{what}`: give a PCI address (0000:00:05.0), an mdev UUID \
                     or vfioN; `vfio-mig list --all` shows what there is"
                )
            })?;
        let node = self.node(&path).context("its name in sysfs is not UTF-8")?;
        if !node.vfio {
            bail!("{}", unbound_reason(&node));
        }
        Ok(node)
    }

    /// What debugfs says, or `None` when the kernel or the permissions do not let us see it.
    pub fn debug_info(&self, node: &Node) -> Option<DebugInfo> {
        let folder = self.debug_folder()?.join(&node.name).join("migration");
        Some(DebugInfo {
            state: text(&folder.join("state"))?,
            features: text(&folder.join("features"))?
                .lines()
                .map(str::to_owned)
                .collect(),
        })
    }

    /// `true` when debugfs could tell, so that a missing `debug_info` means "not migratable".
    pub fn has_debug(&self) -> bool {
        self.debug_folder().is_some()
    }

    fn debug_folder(&self) -> Option<PathBuf> {
        let folder = self.path("sys/kernel/debug/vfio");
        fs::read_dir(&folder).ok().map(|_| folder)
    }
}

/// Why a device is not registered with VFIO, and what to do about it.
pub fn unbound_reason(node: &Node) -> String {
    let name = &node.name;
    match (&node.driver, &node.driver_override) {
        (Some(driver), _) if driver.contains("vfio") => format!(
            "{name} is bound to {driver}, but that did not register it with VFIO; see the kernel log"
        ),
        (Some(driver), _) => format!(
            "{name} is bound to {driver}, not to a vfio driver: unbind it, write the vfio \
             driver's name into {0}/driver_override and {name} into /sys/bus/pci/drivers_probe",
            node.path.display()
        ),
        (None, Some(wanted)) => format!(
            "{name} has no driver though driver_override says {wanted}: is that module loaded, and \
             was {name} written into /sys/bus/pci/drivers_probe? Its probe may have failed: see \
             the kernel log"
        ),
        (None, None) => format!(
            "{name} has no driver: write the vfio driver's name into {}/driver_override and {name} \
             into /sys/bus/pci/drivers_probe",
            node.path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        let add = |name: &str, driver: Option<&str>, vfio: Option<&str>, over: &str| {
            let path = dir.path().join("sys/bus/pci/devices").join(name);
            fs::create_dir_all(&path).expect("folder");
            fs::write(path.join("vendor"), "0x1af4\n").expect("file");
            fs::write(path.join("device"), "0x1041\n").expect("file");
            fs::write(path.join("driver_override"), over).expect("file");
            symlink("../../../kernel/iommu_groups/7", path.join("iommu_group")).expect("link");
            if let Some(driver) = driver {
                symlink(format!("../drivers/{driver}"), path.join("driver")).expect("link");
            }
            if let Some(vfio) = vfio {
                fs::create_dir_all(path.join("vfio-dev").join(vfio)).expect("folder");
                let class = dir.path().join("sys/class/vfio-dev").join(vfio);
                fs::create_dir_all(&class).expect("folder");
                symlink(&path, class.join("device")).expect("link");
            }
        };
        add(
            "0000:00:05.0",
            Some("dlr_vfio_pci"),
            Some("vfio0"),
            "dlr_vfio_pci\n",
        );
        add("0000:00:06.0", Some("e1000e"), None, "(null)\n");
        add("0000:00:07.0", None, None, "vfio-pci\n");
        dir
    }

    #[test]
    fn found_by_any_name() {
        let dir = tree();
        let sysfs = Sysfs::at(dir.path());
        for name in [
            "0000:00:05.0",
            "00:05.0",
            "vfio0",
            "/dev/vfio/devices/vfio0",
        ] {
            let node = sysfs.find(name).expect(name);
            assert_eq!(node.name, "0000:00:05.0");
            assert_eq!(node.driver.as_deref(), Some("dlr_vfio_pci"));
            assert_eq!(node.pci_id.as_deref(), Some("1af4:1041"));
            assert_eq!((node.group, node.cdev.as_deref()), (Some(7), Some("vfio0")));
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let dir = tree();
        let sysfs = Sysfs::at(dir.path());
        let error = |name| sysfs.find(name).expect_err(name).to_string();
        assert!(error("00:06.0").contains("bound to e1000e"));
        assert!(error("00:07.0").contains("driver_override says vfio-pci"));
        assert!(error("00:08.0").contains("vfio-mig list --all"));
    }

    #[test]
    fn listed_in_order() {
        let dir = tree();
        let sysfs = Sysfs::at(dir.path());
        let names = |all| -> Vec<String> { sysfs.nodes(all).into_iter().map(|n| n.name).collect() };
        assert_eq!(names(false), ["0000:00:05.0", "0000:00:07.0"]);
        assert_eq!(
            names(true),
            ["0000:00:05.0", "0000:00:06.0", "0000:00:07.0"]
        );
    }

    #[test]
    fn debugfs_is_optional() {
        let dir = tree();
        let sysfs = Sysfs::at(dir.path());
        let node = sysfs.find("vfio0").expect("device");
        assert_eq!(sysfs.debug_info(&node), None);
        assert!(!sysfs.has_debug());
        let folder = dir
            .path()
            .join("sys/kernel/debug/vfio/0000:00:05.0/migration");
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("state"), "RUNNING\n").expect("file");
        fs::write(folder.join("features"), "stop-copy\np2p\n").expect("file");
        let info = sysfs.debug_info(&node).expect("info");
        assert_eq!((info.state.as_str(), info.features.len()), ("RUNNING", 2));
    }
}
