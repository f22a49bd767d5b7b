// SPDX-License-Identifier: GPL-2.0

//! The native part of `make bench`: this driver's code beside that of C drivers, in one kernel.
//!
//! It runs when a module that was built with `DLR_BENCH=y` is loaded, and says what it measured in
//! the kernel's log, in lines that `tools/testing/src/bench` reads:
//!
//! ```text
//! bench: sample NAME OURS BASE COUNT     nanoseconds of one pass, ours and the baseline's
//! bench: value NAME THOUSANDTHS          something that is counted, not timed
//! bench: end                             all was run
//! ```
//!
//! Every pass of a case runs ours and the baseline one after the other, over the same ring.

mod cases;
mod device;
mod log;
mod memory;
mod pages;

use kernel::prelude::*;

/// Runs everything. An error is said, and nothing else comes of it.
pub(crate) fn run() {
    let all = || {
        let bed = log::Bed::new()?;
        cases::all(&bed)?;
        memory::all(&bed)
    };
    match all() {
        Ok(()) => pr_info!("bench: end\n"),
        Err(error) => pr_err!("bench: failed: {:?}\n", error),
    }
}
