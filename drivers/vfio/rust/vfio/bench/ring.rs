// SPDX-License-Identifier: GPL-2.0

//! Measures a log on a log ring beside the code of C drivers, in one kernel.
//!
//! It runs when a module that was built with `DLR_BENCH=y` is loaded, and prints its measurements
//! to the kernel log, in lines that `tools/testing/src/bench` reads:
//!
//! ```text
//! bench: sample NAME OURS BASE COUNT     nanoseconds of one pass, ours and the baseline's
//! bench: value NAME THOUSANDTHS          something that is counted, not timed
//! bench: end                             all cases were run
//! ```
//!
//! Every pass of a case runs ours and the baseline one after the other, over the same ring.

mod cases;
mod device;
mod log;
mod memory;
mod pages;

use crate::vfio::dirty::ring::format::Format;
use kernel::prelude::*;

/// Runs all cases, with entries of the format `F`. An error is only logged.
pub(crate) fn run<F: Format>() {
    let all = || {
        let bed = log::Bed::new()?;
        cases::all::<F>(&bed)?;
        memory::all::<F>(&bed)
    };
    match all() {
        Ok(()) => pr_info!("bench: end\n"),
        Err(error) => pr_err!("bench: failed: {:?}\n", error),
    }
}
