// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What sysfs and debugfs tell of VFIO devices, without opening any.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};

use crate::{
    advice::unbound_reason,
    node::{Neighbour, Node},
};

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

/// A file of debugfs: its text, `None` if the kernel does not have it, or why it cannot be read.
pub type Told<T> = Result<Option<T>, String>;

/// What debugfs says of a registered device's migration support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugInfo {
    /// State that the driver reports, for example `RUNNING`.
    pub state: Told<String>,
    /// `stop-copy`, `p2p`, `pre-copy`, `dirty-tracking`; not told before Linux 6.18.
    pub features: Told<Vec<String>>,
}

/// What debugfs says of a registered device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Debug {
    /// It can be migrated.
    Migratable(DebugInfo),
    /// It has no migration support.
    NotMigratable,
    /// It does not say: why.
    Unknown(String),
}

/// Host drivers that leave DMA alone (`driver_managed_dma` in the kernel), besides those of VFIO.
const WITHOUT_DMA: [&str; 3] = ["pcieport", "pci-stub", "shpchp"];

fn link_name(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn told(path: &Path) -> Told<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

/// `/sys/module/MODULE/drivers` has links like `pci:mlx5_vfio_pci`.
fn module_has_vfio_driver(device: &Path) -> bool {
    let drivers = fs::read_dir(device.join("driver/module/drivers"));
    let mut names = drivers.into_iter().flatten().flatten();
    names.any(|entry| entry.file_name().to_string_lossy().contains("vfio"))
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
        let driver = link_name(&path.join("driver"));
        Some(Node {
            vfio: cdev_folder.is_dir() || self.registered_before_vfio_dev(&driver, group),
            manages_others: driver.as_deref().is_some_and(|name| !name.contains("vfio"))
                && module_has_vfio_driver(path),
            driver,
            driver_override: text(&path.join("driver_override"))
                .filter(|s| !s.is_empty() && s != "(null)"),
            path: path.to_owned(),
            name,
            pci_id,
            group,
            cdev,
        })
    }

    /// Linux before 6.1 has no `vfio-dev` in sysfs; what it has is a node for each group in which
    /// a device is bound to a VFIO driver.
    fn registered_before_vfio_dev(&self, driver: &Option<String>, group: Option<u32>) -> bool {
        let vfio = driver.as_deref().is_some_and(|name| name.contains("vfio"));
        let names = |group: u32| [group.to_string(), format!("noiommu-{group}")];
        let node = |name: &String| self.path("dev/vfio").join(name).exists();
        let old = !self.path("sys/class/vfio-dev").exists();
        old && vfio && group.is_some_and(|group| names(group).iter().any(node))
    }

    /// Can it be opened through iommufd? The node of a device needs CONFIG_VFIO_DEVICE_CDEV, which
    /// its name in sysfs does not.
    pub fn has_iommufd(&self, node: &Node) -> bool {
        let cdev = |name: &String| self.path("dev/vfio/devices").join(name).exists();
        self.path("dev/iommu").exists() && node.cdev.as_ref().is_some_and(cdev)
    }

    /// Is its group one of the no-IOMMU mode?
    pub fn without_iommu(&self, node: &Node) -> bool {
        let noiommu = |group| self.path("dev/vfio").join(format!("noiommu-{group}"));
        node.group.is_some_and(|group| noiommu(group).exists())
    }

    /// Functions of its IOMMU group whose drivers do DMA for the host. While there are any, the
    /// kernel gives none of the group to a user.
    pub fn host_neighbours(&self, node: &Node) -> Vec<Neighbour> {
        let devices = node.path.join("iommu_group/devices");
        let module = |path: &Path| link_name(&path.join("driver/module"));
        let neighbour = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.to_owned();
            let driver = link_name(&path.join("driver"))?;
            let harmless = driver.contains("vfio") || WITHOUT_DMA.contains(&driver.as_str());
            let physical = link_name(&node.path.join("physfn")).as_ref() == Some(&name);
            let own = module(&node.path);
            (name != node.name && !harmless).then(|| Neighbour {
                manages: physical
                    || (own.is_some() && own == module(&path))
                    || module_has_vfio_driver(&path),
                name,
                driver,
            })
        };
        let entries = fs::read_dir(devices).into_iter().flatten();
        let mut found: Vec<Neighbour> = entries
            .filter_map(|entry| neighbour(entry.ok()?.path()))
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
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
            bail!("{}", unbound_reason(&node, &self.host_neighbours(&node)));
        }
        Ok(node)
    }

    /// What debugfs says. Linux makes the folder `migration` for migratable devices only, with
    /// `state` since 6.8 and `features` since 6.18 (Documentation/ABI/testing/debugfs-vfio).
    pub fn debug(&self, node: &Node) -> Debug {
        let root = self.path("sys/kernel/debug/vfio");
        let unknown = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Debug::Unknown(
                "debugfs is not mounted, or the kernel has no CONFIG_VFIO_DEBUGFS".to_owned(),
            ),
            _ => Debug::Unknown(format!("{}: {e}", root.display())),
        };
        if let Err(e) = fs::read_dir(&root) {
            return unknown(e);
        }
        let device = root.join(&node.name);
        if let Err(e) = fs::read_dir(&device) {
            return match e.kind() {
                io::ErrorKind::NotFound => {
                    Debug::Unknown(format!("debugfs does not know {}", node.name))
                }
                _ => unknown(e),
            };
        }
        let folder = device.join("migration");
        if !folder.is_dir() {
            return Debug::NotMigratable;
        }
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        Debug::Migratable(DebugInfo {
            state: told(&folder.join("state")),
            features: told(&folder.join("features")).map(|text| text.map(lines)),
        })
    }
}

/// Two devices that the user named, which have to be two.
///
/// # Errors
///
/// One of them is not there, or both names are those of one device.
pub fn two_devices(sysfs: &Sysfs, first: &str, second: &str) -> Result<[Node; 2]> {
    let nodes = [sysfs.find(first)?, sysfs.find(second)?];
    if nodes[0].name == nodes[1].name {
        bail!("`{first}` and `{second}` are one device, and two are needed");
    }
    Ok(nodes)
}

#[cfg(test)]
#[path = "discover_tests.rs"]
mod tests;
