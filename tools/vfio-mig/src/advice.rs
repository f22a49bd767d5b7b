// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Why something cannot be done, said once, and what to do about it that can be done.

use std::{error::Error as _, io};

use iommufd_ioctls::IommufdError;
use rustix::{
    io::Errno,
    process::{getrlimit, Resource},
    thread::{capabilities, CapabilitySet},
};
use vfio_ioctls::VfioError;
use vmm_sys_util::errno::Error as SysError;

use crate::{
    node::{Neighbour, Node},
    range::human_size,
};

/// What to do about a machine whose devices have no IOMMU groups.
pub const NO_IOMMU: &str =
    "switch the IOMMU on in the firmware's setup, and on a machine with Intel's (VT-d) boot the \
     kernel with intel_iommu=on";

/// What is known of a device that cannot be opened.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The device.
    pub node: &'a Node,
    /// Functions of its IOMMU group that the host uses.
    pub neighbours: &'a [Neighbour],
    /// Its group is one of the no-IOMMU mode.
    pub without_iommu: bool,
}

/// An error and its causes in one line, each thing once: many errors repeat their cause in their own
/// words.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line += ": ";
            line += &cause;
        }
    }
    line
}

/// Why a device is not registered with VFIO, and what to do about it. `neighbours` are the functions
/// of its IOMMU group that the host uses.
pub fn unbound_reason(node: &Node, neighbours: &[Neighbour]) -> String {
    let name = &node.name;
    let path = node.path.display();
    match (&node.driver, &node.driver_override) {
        (Some(driver), _) if driver.contains("vfio") || node.pci_id.is_none() => format!(
            "{name} is bound to {driver}, but that did not register it with VFIO; see the kernel log"
        ),
        (Some(driver), _) if node.manages_others => format!(
            "{name} is bound to {driver}, which manages the functions that can be given away: \
             leave it bound"
        ),
        // The bus of mdevs has neither driver_override nor drivers_probe.
        (None, _) if node.pci_id.is_none() => format!(
            "{name} has no driver: write {name} into the file bind of the folder of its driver in \
             /sys/bus/mdev/drivers"
        ),
        // A probe of a vfio driver would fail with EINVAL, and the kernel log does not say why.
        _ if node.group.is_none() => {
            format!("{name} has no IOMMU group, and VFIO takes no device without: {NO_IOMMU}")
        }
        (Some(driver), _) => format!(
            "{name} is bound to {driver}, not to a vfio driver: unbind it (echo {name} > \
             {path}/driver/unbind), write the vfio driver's name into {path}/driver_override and \
             {name} into /sys/bus/pci/drivers_probe"
        ),
        // A driver that cannot do without its management function refuses such a group.
        (None, _) if neighbours.iter().any(|neighbour| neighbour.manages) => format!(
            "{name} has no driver, and its driver may refuse it: {}",
            shared_group(node, neighbours).unwrap_or_default()
        ),
        (None, Some(wanted)) => format!(
            "{name} has no driver though driver_override says {wanted}: is that module loaded, and \
             was {name} written into /sys/bus/pci/drivers_probe? Its probe may have failed, or be \
             put off (EPROBE_DEFER, 517) until the function that manages it is bound: see the kernel \
             log"
        ),
        (None, None) => format!(
            "{name} has no driver: write the vfio driver's name into {path}/driver_override and \
             {name} into /sys/bus/pci/drivers_probe"
        ),
    }
}

/// Why a device cannot be given away though its driver could, and what to do about it.
pub fn shared_group(node: &Node, neighbours: &[Neighbour]) -> Option<String> {
    let name = &node.name;
    let group = node.group.map_or_else(String::new, |n| format!(" ({n})"));
    let list = |manages: bool| -> Option<String> {
        let of = neighbours.iter().filter(|n| n.manages == manages);
        let words: Vec<String> = of.map(|n| format!("{} ({})", n.name, n.driver)).collect();
        (!words.is_empty()).then(|| words.join(", "))
    };
    if let Some(managing) = list(true) {
        // Without it the device could not be migrated, so there is no use in unbinding it.
        return Some(format!(
            "{managing}, which manages {name} and has to stay bound, is in the same IOMMU group\
             {group}: {name} must have a group of its own, in another slot or below a port with ACS"
        ));
    }
    list(false).map(|others| {
        format!(
            "the host uses {others} of the same IOMMU group{group}: unbind that from its driver \
             (echo NAME > /sys/bus/pci/devices/NAME/driver/unbind), or give {name} a group of its \
             own, in another slot or below a port with ACS"
        )
    })
}

fn is(cause: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(cause) == Some(errno)
}

/// A device node that cannot be opened.
fn not_opened(path: &str, cause: &io::Error, facts: Option<&Facts<'_>>) -> anyhow::Error {
    let without_iommu = facts.is_some_and(|facts| facts.without_iommu);
    let no_iommu =
        format!("the device is in no-IOMMU mode, where nothing can be migrated: {NO_IOMMU}");
    let hint = match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "only root may, and users that were given the device node"
        }
        io::ErrorKind::NotFound if without_iommu => &no_iommu,
        io::ErrorKind::NotFound if path == "/dev/iommu" => {
            "it needs CONFIG_IOMMUFD and its module; `--backend legacy` does without"
        }
        io::ErrorKind::NotFound if path.starts_with("/dev/vfio/devices/") => {
            "it needs CONFIG_VFIO_DEVICE_CDEV; `--backend legacy` does without"
        }
        io::ErrorKind::NotFound => {
            "it needs CONFIG_VFIO_GROUP and the module vfio; `--backend iommufd` does without"
        }
        _ if is(cause, Errno::BUSY) => "another program uses it, or its group",
        _ => "see the kernel log",
    };
    anyhow::anyhow!("cannot open {path}: {cause}; {hint}")
}

/// Why iommufd cannot be used.
pub fn no_iommufd(error: &IommufdError) -> anyhow::Error {
    match error {
        IommufdError::OpenIommufd(cause) => not_opened("/dev/iommu", cause, None),
        other => anyhow::anyhow!("cannot use /dev/iommu: {other}"),
    }
}

/// Why the container of the legacy way cannot be used.
pub fn no_container(error: VfioError) -> anyhow::Error {
    match error {
        VfioError::OpenContainer(cause) => not_opened("/dev/vfio/vfio", &cause, None),
        VfioError::VfioExtension | VfioError::VfioType1V2 => {
            anyhow::anyhow!(
                "/dev/vfio/vfio knows no IOMMU: load the module vfio_iommu_type1 (modprobe \
                 vfio_iommu_type1); `--backend iommufd` does without"
            )
        }
        other => plain(other).context("cannot use /dev/vfio/vfio"),
    }
}

/// What to do about a machine on which a device could raise interrupts of others, by a write of DMA.
/// `module` is the one that refuses.
fn unsafe_interrupts(module: &str) -> String {
    format!(
        "the machine has no interrupt remapping (dmesg | grep -i remap): switch it on in the \
         firmware's setup, or at your own risk do without (echo 1 > \
         /sys/module/{module}/parameters/allow_unsafe_interrupts)"
    )
}

/// Why a device cannot be opened.
pub fn no_device(error: VfioError, facts: &Facts<'_>) -> anyhow::Error {
    let name = &facts.node.name;
    let shared = shared_group(facts.node, facts.neighbours);
    let group_hint = |otherwise: &str| shared.clone().unwrap_or_else(|| otherwise.to_owned());
    const IN_USE: &str = "another program uses it, or another function of its IOMMU group";
    match error {
        VfioError::OpenGroup(cause, group) => {
            not_opened(&format!("/dev/vfio/{group}"), &cause, Some(facts))
                .context(format!("cannot use {name}"))
        }
        VfioError::OpenDeviceCdev(cause) => {
            let cdev = facts.node.cdev.as_deref().unwrap_or("vfioN");
            not_opened(&format!("/dev/vfio/devices/{cdev}"), &cause, Some(facts))
                .context(format!("cannot use {name}"))
        }
        VfioError::InvalidVfioDev => anyhow::anyhow!(
            "cannot use {name}: it has no place in /sys/…/vfio-dev (Linux before 6.1); `--backend \
             legacy` does without"
        ),
        // The kernel tells these apart from others no further.
        VfioError::GroupViable | VfioError::GroupSetContainer => {
            anyhow::anyhow!("cannot use {name}: {error}; {}", group_hint(IN_USE))
        }
        VfioError::VfioDeviceBindIommufd(cause) => {
            let cause = io::Error::from(cause);
            let hint = match () {
                () if is(&cause, Errno::BUSY) => group_hint(IN_USE),
                // iommufd_bind_iommu(): interrupts first, then iommu_device_claim_dma_owner() when the
                // group has another owner. A user who may open the device may bind it.
                () if is(&cause, Errno::PERM) => {
                    group_hint(&format!("{IN_USE}, or {}", unsafe_interrupts("iommufd")))
                }
                // vfio_df_open() of a device that is open already, and iommufd_bind_iommu().
                () if is(&cause, Errno::INVAL) => {
                    "another program uses it, or its IOMMU is not cache-coherent".to_owned()
                }
                () => "its driver refuses: see the kernel log".to_owned(),
            };
            anyhow::anyhow!("cannot use {name}: {cause}; {hint}")
        }
        VfioError::ContainerSetIOMMU(cause) if cause.errno() == Errno::PERM.raw_os_error() => {
            anyhow::anyhow!(
                "cannot use {name}: {}; {}",
                io::Error::from(cause),
                unsafe_interrupts("vfio_iommu_type1")
            )
        }
        VfioError::GroupGetDeviceFD(cause) => {
            let cause = io::Error::from(cause);
            anyhow::anyhow!("cannot use {name}: {cause}; its driver refuses: see the kernel log")
        }
        other => plain(other).context(format!("cannot use {name}")),
    }
}

/// A call that should have worked on a device that says it has what is called: `what` happened, and what
/// to do about it.
pub fn refused(what: &str, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{what}: {error}; {}", hint_of(error))
}

/// [`refused`] of a read or write of a data file.
pub fn data_refused(what: &str, error: &io::Error) -> anyhow::Error {
    match Errno::from_io_error(error) {
        Some(Errno::NODEV) => {
            anyhow::anyhow!("{what}: {error}; the session has ended: was the device reset?")
        }
        _ => refused(what, error),
    }
}

/// A log of `ranges` ranges that cannot be started, though they are right in themselves.
pub fn log_refused(ranges: usize, error: &io::Error) -> anyhow::Error {
    let hint = match Errno::from_io_error(error) {
        Some(Errno::INVAL | Errno::NOSPC | Errno::OPNOTSUPP | Errno::BUSY | Errno::TOOBIG) => {
            "too many, beyond its addresses, or does it log for another user?"
        }
        _ => hint_of(error),
    };
    let are = if ranges == 1 { "range" } else { "ranges" };
    anyhow::anyhow!("the device refuses to log {ranges} {are}: {error}; {hint}")
}

fn hint_of(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        // What drivers say whose device is managed by another function.
        Some(Errno::NOTCONN) => "is the function that manages it bound? See the kernel log",
        // It is not the device that the driver was bound to.
        Some(Errno::NODEV) => "unbind it from its driver and bind it again; see the kernel log",
        Some(Errno::NOMEM) => {
            "the host, the memory cgroup of this process or the device has no memory for it"
        }
        _ => "see the kernel log",
    }
}

/// Memory that cannot be mapped for DMA.
pub fn no_mapping(error: VfioError) -> anyhow::Error {
    // Nobody counts what a process with this capability locks.
    let unlimited =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    let limit = getrlimit(Resource::Memlock).current;
    unmapped(error, limit.filter(|_| !unlimited))
}

/// [`no_mapping`] of a process that may lock `limit` bytes of memory; `None`: as many as there are.
fn unmapped(error: VfioError, limit: Option<u64>) -> anyhow::Error {
    let no_memory = errno(&error) == Some(Errno::NOMEM);
    let text = one_line(&plain(error));
    match limit.filter(|_| no_memory) {
        Some(limit) => anyhow::anyhow!(
            "{text}; this process may lock {} of memory, and DMA needs locked memory: run `ulimit \
             -l unlimited` as root in the shell that starts it (in a unit of systemd \
             LimitMEMLOCK=infinity)",
            human_size(limit)
        ),
        None => anyhow::anyhow!("{text}"),
    }
}

/// What the kernel said, if it was the kernel.
fn errno(error: &VfioError) -> Option<Errno> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(error) = source.downcast_ref::<SysError>() {
            return Some(Errno::from_raw_os_error(error.errno()));
        }
        cause = source.source();
    }
    None
}

/// The words of an error of the crate, without what repeats them.
fn plain(error: VfioError) -> anyhow::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let words = source.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = source.source();
    }
    anyhow::Error::msg(text)
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
