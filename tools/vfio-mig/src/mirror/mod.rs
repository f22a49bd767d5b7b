// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Being the VMM of a virtio-net function that is migrated under traffic.
//!
//! | module | knows |
//! | --- | --- |
//! | [`memory`] | the memory of the virtual machine: mapping, what its CPU wrote, copy, compare |
//! | [`transport`] | virtio over PCI, as the driver sees it |
//! | [`queue`] | a split virtqueue in that memory |
//! | [`frames`] | Ethernet frames of the test traffic |
//! | [`layout`] | what lies where in the memory |
//! | [`buffers`] | which page is the next receive buffer |
//! | [`control`] | commands for the control queue, and their answers |
//! | [`traffic`] | the "guest": sends echo requests, checks what comes back |
//! | [`counters`] | what it counts |
//! | [`interrupt`] | the interrupt of the receive queue |
//! | [`pulse`] | how far the traffic has come, for the thread that migrates |
//! | [`plan`] | how a migration goes, and what came out |
//! | `passage` | a migration on its way: the log, the rounds under traffic |
//! | `pieces` | REPORTs of parts of a range |
//! | [`migrate`] | the stop, the comparison, the move; `after` the traffic that follows |
//! | `stay` | a migration that is given up or refused |
//! | [`cloud`] | what a Cloud Hypervisor does otherwise |
//!
//! The memory rules are those of any VMM: a page is copied when the device's log names it or
//! the CPU (here: this program) wrote it; nothing else tells that it changed. At the end all
//! pages are compared, so that a page that the log did not name shows.

mod after;
pub mod buffers;
pub mod cloud;
pub mod control;
pub mod counters;
pub mod frames;
pub mod interrupt;
pub mod layout;
pub mod memory;
pub mod migrate;
#[cfg(test)]
mod model;
mod passage;
mod pieces;
pub mod plan;
pub mod pulse;
pub mod queue;
mod stay;
pub mod traffic;
pub mod transport;
