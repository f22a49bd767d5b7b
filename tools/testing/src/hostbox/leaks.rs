// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Memory that nothing points to, as kmemleak finds it. Only the debug kernel has kmemleak.

use std::time::Duration;

use anyhow::{ensure, Result};

use super::HostBox;

/// A scan goes through all memory of the box, on an emulated processor.
const LIMIT: Duration = Duration::from_secs(180);

/// kmemleak reports what is older than 5 s (MSECS_MIN_AGE in mm/kmemleak.c). A pointer that is being
/// moved can hide from one scan, so what counts is what a second scan still finds. What the kernel has
/// allocated while it boots ("swapper") is left out.
const SCRIPT: &str = "\
leaks=/sys/kernel/debug/kmemleak
[ -e $leaks ] || exit 0
sleep 6
echo scan > $leaks && echo scan > $leaks || exit
awk '/^unreferenced/ { head = $0; show = 0; next }
     /^  comm / { show = !/comm \"swapper/; if (show) print head }
     show' $leaks
";

impl HostBox {
    /// Fails if memory leaked since the kernel has booted. Without kmemleak it finds nothing.
    ///
    /// # Errors
    ///
    /// kmemleak's words.
    pub fn check_leaks(&self) -> Result<()> {
        let output = self.try_run(SCRIPT, LIMIT)?;
        let found = output.text();
        ensure!(
            output.success() && found.trim().is_empty(),
            "memory leaked, or kmemleak {}:\n{found}",
            output.ending()
        );
        Ok(())
    }
}
