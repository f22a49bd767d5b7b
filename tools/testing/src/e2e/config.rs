// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a VM consists of.

/// How QEMU reaches VFIO devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Device nodes and `/dev/iommu`.
    Iommufd,
    /// Groups and containers.
    Legacy,
}

/// What a VM consists of.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Name; its files are in `/run/vm/NAME`.
    pub name: String,
    /// PCI addresses of the functions it gets.
    pub functions: Vec<String>,
    /// How it reaches them.
    pub backend: Backend,
    /// Memory in MiB, on huge pages of 2 MiB.
    pub memory_mib: u32,
    /// Whether it waits for a migration.
    pub incoming: bool,
    /// What is not as usual.
    pub unusual: Unusual,
}

/// What sets a VM apart from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unusual {
    /// Options of every vfio-pci device, as `x-pre-copy-dirty-page-tracking=off`.
    pub device: Option<String>,
    /// Further words of the command line.
    pub words: String,
    /// Its processor stands still until `cont`.
    pub paused: bool,
    /// Memory in MiB, if not that of all others.
    pub memory_mib: Option<u32>,
    /// Emulator, if not the one of the root file system.
    pub emulator: Option<String>,
    /// Machine type, if not the newest one.
    pub machine: Option<String>,
    /// Its program is reached by a serial line, not by virtio-serial.
    pub serial_line: bool,
    /// Folder with `vmlinuz` and `initrd` of Debian's kernel, if not the kernel of the box.
    pub boot: Option<String>,
}

/// Socket of a QMP in the folder of a VM, beside the one that its test uses: for an NMI to a guest that spins.
pub(super) const NMI: &str = "nmi";

pub(super) fn folder(name: &str) -> String {
    format!("/run/vm/{name}")
}
