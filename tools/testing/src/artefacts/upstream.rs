// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The native kernel with the changes of the kernel that we propose, those in
//! `Documentation/upstream`: its source is a copy of that of the box's kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{ensure, Context, Result};

use super::{
    cache::Cache,
    kernel,
    native::{self, Flavour, NATIVE_AT},
    rootfs::Rootfs,
    sandbox::Sandbox,
};
use crate::progress;

/// Raised when the recipe below changes.
const RECIPE: &str = "1";

/// The patches, in the order in which they apply.
fn patches(tree: &Path) -> Result<Vec<String>> {
    let folder = tree.join("Documentation/upstream");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no patch", folder.display());
    let read = |path: &PathBuf| fs::read_to_string(path).context("a patch");
    paths.iter().map(read).collect()
}

/// Finds or builds the kernel; `source` is the folder with the source as Debian ships it. Returns
/// the entry, which holds the patched source in `src` beside `build`.
pub(super) fn ensure(
    cache: &Cache,
    rootfs: &Rootfs,
    source: &Path,
    tree: &Path,
) -> Result<PathBuf> {
    let (flavour, patches) = (Flavour::Upstream, patches(tree)?);
    let fragment = flavour.fragment(tree)?;
    let recipe = [native::RECIPE, RECIPE, &patches.concat()].concat();
    let key = kernel::key(&recipe, &fragment, rootfs, &flavour.tools());
    cache.entry(flavour.name(), &key, 3, |aside| {
        copy_source(source, aside)?;
        apply(rootfs, aside, &patches)?;
        native::make(aside, rootfs, aside, &fragment, flavour)
    })
}

/// Links instead of copying: `patch` replaces the files that it changes by new ones, and a build
/// changes none.
fn copy_source(source: &Path, aside: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--link"])
        .arg(source.join("src"))
        .arg(aside.join("src"));
    progress::step(
        "link the kernel's source",
        &mut copy,
        &aside.join("copy.log"),
    )
}

/// Applies the patches to the source in `aside`.
fn apply(rootfs: &Rootfs, aside: &Path, patches: &[String]) -> Result<()> {
    for (number, patch) in patches.iter().enumerate() {
        fs::write(aside.join("patch"), patch)?;
        let script = format!("cd {NATIVE_AT}/src && busybox patch -p1 < {NATIVE_AT}/patch");
        let mut command = Sandbox::new(&rootfs.tree)
            .mount(aside, NATIVE_AT, true)
            .command(&script);
        let log = aside.join(format!("patch-{number}.log"));
        progress::step(&format!("apply patch {}", number + 1), &mut command, &log)?;
    }
    Ok(())
}
