// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The command line.

use clap::{Parser, Subcommand};

use crate::{cmd, device::Backend};

/// Drives the VFIO migration and DMA logging interface of any device, without a virtual
/// machine.
///
/// DEV is a PCI address (0000:00:05.0), an mdev UUID, vfioN or /dev/vfio/devices/vfioN.
/// Opening a PCI device resets its function; a device in use by a VMM cannot be opened.
///
/// Exit code: 0 all is well, 1 the device failed a comparison, 2 the command could not be done.
#[derive(Debug, Parser)]
#[command(name = "vfio-mig", version, about, long_about)]
pub struct Cli {
    /// Print JSON, and no progress.
    #[arg(long, global = true)]
    pub json: bool,

    /// How to open devices.
    #[arg(long, global = true, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the devices of this machine and whether they can be migrated.
    List(cmd::list::Args),
    /// Say what one device can do, or why it cannot be migrated.
    Info(cmd::info::Args),
    /// Save the state of a device to a file.
    Save(cmd::save::Args),
    /// Load a saved state into a device.
    Load(cmd::load::Args),
    /// Log which pages a device writes.
    Log(cmd::log::Args),
    /// Migrate a virtio-net function under traffic and compare all memory.
    Mirror(cmd::mirror::Args),
    /// Check whether a device does what the VFIO migration and DMA logging uAPI says.
    Check(cmd::check::Args),
    /// Make random calls and load damaged streams, and compare with what the uAPI says.
    Fuzz(cmd::fuzz::Args),
    /// Take single calls as lines of JSON (see README.md): set, get, read, write, report, reset…
    Drive(cmd::drive::Args),
    /// Used by `check`: hold a data file in a process of its own.
    #[command(name = crate::check::holder::COMMAND, hide = true)]
    HoldDataFile,
    /// Used by `fuzz`: calls of another process.
    #[command(name = crate::fuzz::party::COMMAND, hide = true)]
    FuzzCrew {
        /// Decides the calls.
        seed: u64,
        /// What may be done, as JSON.
        rules: String,
    },
}
