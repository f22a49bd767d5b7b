// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The QEMU of Debian trixie itself, beside the one from backports that the root file system has:
//! for guests that move between versions. Only the program: its libraries are those of the root
//! file system, which is trixie, and its firmware has to be the same on both sides anyway.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    cache::{self, Cache},
    sandbox::{Sandbox, TREE_AT},
};
use crate::progress;

/// Raised when the recipe below, which works in [`TREE_AT`], changes.
const RECIPE: &str = "1";

/// Package and suite.
const PACKAGE: &str = "qemu-system-x86/trixie";

/// The program inside the package.
const PROGRAM: &str = "usr/bin/qemu-system-x86_64";

/// Downloads it with the root file system's apt, whose own lists stay as they are.
const SCRIPT: &str = "\
    cd /srv && mkdir -p lists/partial cache/archives/partial && \
    apt='-o Dir::State::Lists=/srv/lists -o Dir::Cache=/srv/cache -o APT::Sandbox::User=root' && \
    apt-get $apt update && apt-get $apt download PACKAGE && \
    dpkg-deb --extract *.deb /srv/tree && rm -rf lists cache *.deb";

/// Finds or fetches it; returns the program.
pub(super) fn ensure(cache: &Cache, rootfs: &Path) -> Result<PathBuf> {
    let key = cache::key([RECIPE, PACKAGE, &rootfs.to_string_lossy()]);
    let entry = cache.entry("old-qemu", &key, 1, |aside| {
        let script = SCRIPT.replace("PACKAGE", PACKAGE);
        let mut command = Sandbox::new(rootfs)
            .mount(aside, TREE_AT, true)
            .command(&script);
        progress::step("QEMU of trixie", &mut command, &aside.join("apt.log"))
            .context("is the network there?")
    })?;
    Ok(entry.join("tree").join(PROGRAM))
}
