// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Linux as a program of this machine (`ARCH=um`), in which the driver's own tests run at full
//! speed. The source is that of the box's kernel: it is mounted, not unpacked again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};

use super::{
    cache::Cache,
    kernel::{self, Recipe, CLANG_TOOLS, MOUNTED_AT, TOOLS},
    rootfs::Rootfs,
    sandbox::Sandbox,
};

/// Raised when the recipe below changes.
pub(super) const RECIPE: &str = "1";

/// Where an entry is mounted during builds and runs, beside the source. Build trees hold absolute
/// paths, so it must be the same for the kernel and all modules.
pub(crate) const NATIVE_AT: &str = "/work";

/// The kernel, relative to its entry.
pub(crate) const IMAGE: &str = "build/linux";

/// Which of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// As fast as it gets: `configs/um.config`, built by gcc.
    Plain,
    /// It checks itself (KASAN, lockdep, kmemleak and more): `configs/um-debug.config` on top,
    /// built by clang.
    Debug,
    /// The plain one with the patches of `Documentation/upstream`, and with page allocations that
    /// fail on demand: `configs/um-upstream.config` on top.
    Upstream,
    /// For benchmarks, without tests and checks: `configs/um-bench.config`, built by gcc.
    Bench,
}

impl Flavour {
    /// Its name in names of steps and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "native",
            Self::Debug => "native-debug",
            Self::Upstream => "native-upstream",
            Self::Bench => "native-bench",
        }
    }

    /// What every `make` in its build tree needs.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::Plain | Self::Upstream | Self::Bench => "ARCH=um",
            Self::Debug => "ARCH=um LLVM=1",
        }
    }

    pub(super) fn tools(self) -> Vec<&'static str> {
        let clang: &[_] = match self {
            Self::Plain | Self::Upstream | Self::Bench => &[],
            Self::Debug => CLANG_TOOLS,
        };
        [TOOLS, clang].concat()
    }

    pub(super) fn fragment(self, tree: &Path) -> Result<String> {
        let names: &[_] = match self {
            Self::Plain => &["um.config"],
            Self::Debug => &["um.config", "um-debug.config"],
            Self::Upstream => &["um.config", "um-upstream.config"],
            Self::Bench => &["um-bench.config"],
        };
        let mut text = String::new();
        for name in names {
            let path = tree.join("tools/testing/configs").join(name);
            text += &fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        }
        Ok(text)
    }
}

/// A native kernel.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What the kernel is called.
    pub name: &'static str,
    /// The root file system, whose libraries the kernel uses.
    pub rootfs: PathBuf,
    /// The kernel's entry.
    pub kernel: PathBuf,
}

/// A native kernel and the modules for its tests.
#[derive(Debug, Clone)]
pub struct Native {
    /// The kernel.
    pub machine: Machine,
    /// The driver.
    pub module: PathBuf,
    /// A module that does wrong on demand.
    pub control: PathBuf,
}

/// Finds or builds the kernel; `source` is the folder with the source. Returns the entry, which
/// holds [`IMAGE`] and the build tree.
pub(super) fn ensure_native(
    cache: &Cache,
    rootfs: &Rootfs,
    source: &Path,
    tree: &Path,
    flavour: Flavour,
) -> Result<PathBuf> {
    let fragment = flavour.fragment(tree)?;
    let key = kernel::key(RECIPE, &fragment, rootfs, &flavour.tools());
    cache.entry(flavour.name(), &key, 3, |aside| {
        make(aside, rootfs, source, &fragment, flavour)
    })
}

/// Builds the kernel of the source in the folder `source` in the entry `aside`.
pub(super) fn make(
    aside: &Path,
    rootfs: &Rootfs,
    source: &Path,
    fragment: &str,
    flavour: Flavour,
) -> Result<()> {
    let sandbox = sandbox(&rootfs.tree, source)?.mount(aside, NATIVE_AT, true);
    let recipe = Recipe {
        name: &format!("the {} kernel", flavour.name()),
        mounted_at: NATIVE_AT,
        arguments: flavour.arguments(),
        targets: "all",
        image: "linux",
    };
    kernel::configure_and_make(aside, &sandbox, fragment, &recipe)
}

/// A sandbox with the source, for whatever is built from it.
pub(super) fn sandbox(rootfs: &Path, source: &Path) -> Result<Sandbox> {
    ensure!(
        source.join("src/Makefile").exists(),
        "there is no source of the kernel in {}/src: DLR_KERNEL must name the folder `build` \
         beside it",
        source.display()
    );
    Ok(Sandbox::new(rootfs).mount(source, MOUNTED_AT, false))
}
