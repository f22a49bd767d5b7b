// SPDX-License-Identifier: Apache-2.0 OR MIT

//! End to end: a guest with functions of the NIC moves from one unmodified
//! QEMU to another one, under traffic, and every byte is checked.
//!
//! * [`lab`] is a host box with NIC and driver, ready for guests;
//! * [`vm`] is a QEMU in it, [`command`] its command line, [`guest`] the program in its guest;
//! * [`traffic`] starts what runs through the migration, on both sides, [`growth`] sees that it
//!   suffices, [`judged`] judges each move by that;
//! * [`migrate`] moves the guest, [`attempt`] does it step by step;
//! * [`trace`] reads what QEMU saw of it, [`order`] in which order it asked for what, [`stop`] what
//!   the time is made of for which the guest stands still;
//! * [`journey`] puts these together: a guest that moves, again and again;
//! * [`oracle`] judges: memory and wire; [`rings`] finds what the guest's kernel says about its rings;
//!   [`blame`] tells whose fault a dead guest is, [`census`] counts these;
//! * [`report`] and [`picture`] tell people.

pub mod attempt;
pub mod blame;
pub mod census;
mod command;
pub mod config;
mod growth;
pub mod guest;
pub mod journey;
pub mod judged;
pub mod lab;
pub mod migrate;
pub mod oracle;
pub mod order;
pub mod picture;
pub mod report;
pub mod rings;
pub mod stop;
pub mod trace;
pub mod traffic;
pub mod vm;

pub use attempt::{Attempt, Settings};
pub use config::{Backend, Unusual, VmConfig};
pub use growth::Growth;
pub use journey::{Heard, Journey};
pub use judged::{Demand, Judged, NoWindow, Watch};
pub use lab::Lab;
pub use migrate::{Migration, Plan};
pub use oracle::Verdict;
pub use stop::Stop;
pub use traffic::Traffic;
pub use vm::Vm;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by this machine's clock.
pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
