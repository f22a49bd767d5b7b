// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A few passes of the native part of `make bench`: whether a figure is worse than twice what is
//! promised or was reached.

use anyhow::{ensure, Result};

use super::{Context, Tally};
use crate::bench;

/// How much worse a figure may be than what is promised or was reached. Other work of the machine
/// takes caches away from one side of a ratio and not from the other.
const MARGIN: f64 = 2.0;

/// Measures, and counts each figure as a test.
pub(super) fn run(context: &Context<'_>, tally: &mut Tally) -> Result<()> {
    for figure in bench::short(context.workshop)? {
        let verdict = || -> Result<()> {
            if let Some(words) = figure.slide(MARGIN) {
                ensure!(false, "{words}");
            }
            Ok(())
        };
        tally.check(&format!("bench {}", figure.name), verdict());
    }
    Ok(())
}
