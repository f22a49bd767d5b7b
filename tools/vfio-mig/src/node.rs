// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is known of a device without opening it.

use std::path::PathBuf;

use serde::Serialize;

/// One device that is, or could be, used through VFIO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Its driver is no vfio driver, but belongs to a module with one: it manages what that serves.
    #[serde(skip)]
    pub manages_others: bool,
}

/// Another function of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name in sysfs.
    pub name: String,
    /// Driver that it is bound to.
    pub driver: String,
    /// It manages the function that we look at: it is its physical function, or its driver belongs
    /// to the same module, or to one that has a VFIO driver as well.
    pub manages: bool,
}
