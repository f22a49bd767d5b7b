// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a test may choose about its host box.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// Where the functions of a NIC are plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Each function in a slot of the root bus: an IOMMU group of its own.
    RootBus,
    /// All functions in one slot of the root bus, eight at most: one IOMMU group, from which none
    /// can be given away.
    OneSlot,
    /// Each function behind a root port of its own, where it can be unplugged
    /// and errors can be injected.
    RootPorts,
    /// All functions behind one switch, each at a downstream port of its own: errors of the upstream port
    /// concern all of them. QEMU 11.1's downstream port lacks ACS, and all functions behind such ports would
    /// be in one IOMMU group; its root port has ACS and works there, too.
    Switch,
}

/// One `dlr-nic` process and its functions.
#[derive(Debug, Clone)]
pub struct NicConfig {
    /// Number of data functions.
    pub functions: u16,
    /// Further arguments of `dlr-nic`.
    pub args: Vec<String>,
    /// Where its functions are plugged in.
    pub placement: Placement,
}

impl NicConfig {
    /// A NIC with so many data functions, on the root bus.
    pub fn new(functions: u16) -> Self {
        Self {
            functions,
            args: Vec::new(),
            placement: Placement::RootBus,
        }
    }

    /// Adds arguments to the command line of `dlr-nic`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Plugs the functions in elsewhere.
    #[must_use]
    pub fn placed(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}

/// One end of a network cable between two boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// Socket that stands for it.
    pub socket: PathBuf,
    /// Which end: the first one makes the socket, and its box is started first. The address at
    /// end `n` is [`Cable::address`].
    pub end: u8,
}

impl Cable {
    /// The IPv4 address of an end, in a network of 24 bits.
    pub fn address(end: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, end.saturating_add(1))
    }

    /// The MAC address of this end.
    pub fn mac(&self) -> String {
        format!("02:d1:72:77:00:{:02x}", self.end)
    }
}

/// What a host box consists of.
#[derive(Debug, Clone)]
pub struct BoxConfig {
    /// Name of the test: names the folder of its results.
    pub name: String,
    /// The NICs, each a process of its own.
    pub nics: Vec<NicConfig>,
    /// Devices of QEMU itself, each behind a root port of its own: see
    /// [`HostBox::device`](crate::HostBox::device).
    pub devices: Vec<String>,
    /// Memory of the box in MiB, huge pages included.
    pub memory_mib: u32,
    /// Number of processors.
    pub cpus: u8,
    /// Their model, as QEMU's `-cpu` has it.
    pub cpu: String,
    /// Huge pages of 2 MiB to set aside for guests.
    pub huge_pages: u32,
    /// Further words for the kernel's command line.
    pub kernel_args: Vec<String>,
    /// Files to be found under `/dlr/<name>` in the box: (name, source).
    pub files: Vec<(String, PathBuf)>,
    /// Complaints in the kernel log that the test provokes on purpose, as
    /// substrings of the lines that are let through.
    pub expected_complaints: Vec<String>,
    /// A network interface of the box itself, with [`Cable::address`].
    pub cable: Option<Cable>,
    /// How long the box may take to come up.
    pub boot_limit: Duration,
    /// Whether a shell of the box takes over this terminal.
    pub console: bool,
    /// Whether the box survives a system sleep: its file systems sit behind ports of their own, where
    /// their virtio devices can promise to keep their state.
    pub sleeps: bool,
    /// Whether time in the box is the number of instructions that its one processor has executed, a
    /// nanosecond each.
    pub counted: bool,
}

impl BoxConfig {
    /// A box without a NIC.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            nics: Vec::new(),
            devices: Vec::new(),
            memory_mib: 2560,
            cpus: 2,
            cpu: "max".into(),
            huge_pages: 0,
            kernel_args: Vec::new(),
            files: Vec::new(),
            expected_complaints: Vec::new(),
            cable: None,
            boot_limit: Duration::from_secs(180),
            console: false,
            sleeps: false,
            counted: false,
        }
    }

    /// A box for the running test: named by its thread, which the test
    /// framework names by the test.
    ///
    /// The driver's own suites would run at each insmod, for seconds, and what they find would be
    /// heard by no test: they have a layer of their own.
    pub fn for_test() -> Self {
        let thread = std::thread::current();
        Self::new(thread.name().unwrap_or("test").replace("::", "-")).kernel_arg("kunit.enable=0")
    }

    /// Adds a NIC.
    #[must_use]
    pub fn nic(mut self, nic: NicConfig) -> Self {
        self.nics.push(nic);
        self
    }

    /// Adds a device of QEMU, as `-device` has it but for its place.
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.devices.push(device.into());
        self
    }

    /// Adds a NIC with so many data functions.
    #[must_use]
    pub fn functions(self, functions: u16) -> Self {
        self.nic(NicConfig::new(functions))
    }

    /// Sets huge pages of 2 MiB aside.
    #[must_use]
    pub fn huge_pages(mut self, pages: u32) -> Self {
        self.huge_pages = pages;
        self
    }

    /// Sets the memory of the box, in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn kernel_arg(mut self, arg: impl Into<String>) -> Self {
        self.kernel_args.push(arg.into());
        self
    }

    /// Makes a file of this machine available as `/dlr/<name>`.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        self.files.push((name.into(), source.into()));
        self
    }

    /// Lets the box survive a system sleep.
    #[must_use]
    pub fn sleeps(mut self) -> Self {
        self.sleeps = true;
        self
    }

    /// Makes the instructions of the box's one processor its clock.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.cpus = 1;
        self.counted = true;
        self
    }

    /// Plugs a cable in.
    #[must_use]
    pub fn cable(mut self, cable: Cable) -> Self {
        self.cable = Some(cable);
        self
    }

    /// Lets kernel log lines through that contain `text`.
    #[must_use]
    pub fn expect_complaint(mut self, text: impl Into<String>) -> Self {
        self.expected_complaints.push(text.into());
        self
    }
}
