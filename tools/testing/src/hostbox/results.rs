// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The folder of one run.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{bail, Context, Result};

/// Says where the logs are and how to run the same again.
pub(super) fn announce(results: &Path) {
    eprintln!("logs are here:  {}", results.display());
    let thread = thread::current();
    if let Some(name) = thread.name().filter(|name| *name != "main") {
        eprintln!("repeat with:    make test-one NAME={name}");
    }
}

/// Makes the folder of one run. Runs of one name at a time each get their own.
pub(super) fn results_folder(base: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(base).with_context(|| format!("{}", base.display()))?;
    for number in 0..10_000 {
        let folder = match number {
            0 => base.join(name),
            n => base.join(format!("{name}.{n}")),
        };
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("{}", folder.display())),
        }
    }
    bail!(
        "too many results under {}: run `make clean`",
        base.display()
    )
}
