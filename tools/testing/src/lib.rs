// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The test bed: what it consists of, how to start it, how to talk to it.
//!
//! * [`artefacts`] builds and caches what a run needs: the root file system,
//!   the kernel, the module, the programs, the guest's initramfs.
//! * [`hostbox`] starts the machine under test and runs commands in it.
//! * [`agent`], [`qmp`] talk to what runs inside.
//! * [`drive`] does single calls on a device in it.
//! * [`e2e`] migrates guests in it and checks every byte.
//! * [`native`] runs a kernel as a program of this machine, for the driver's own tests.
//! * [`bench`] is `make bench`.
//! * [`soak`] is `make soak`: thousands of migrations there.
//! * [`fuzz`] is `make fuzz-driver`: random calls there.
//! * [`ktap`], [`splat`] judge what the kernel said.
//! * [`layers`] is `make test`, [`mutants`] is `make mutants`.

pub mod agent;
pub mod artefacts;
pub mod bench;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod claims;
pub mod cpio;
pub mod drive;
pub mod e2e;
pub mod fuzz;
pub mod hostbox;
pub mod ktap;
pub mod layers;
pub mod mutants;
pub mod native;
pub mod progress;
pub mod qmp;
pub mod soak;
pub mod splat;

pub use hostbox::{BoxConfig, Cable, HostBox, NicConfig, Placement};
