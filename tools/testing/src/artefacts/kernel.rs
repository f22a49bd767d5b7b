// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The kernel of the host box and of its guests.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{ensure, Context, Result};

use super::{
    cache::{self, Cache},
    rootfs::{Rootfs, LINUX_SOURCE},
    sandbox::Sandbox,
};
use crate::progress;

/// Raised when the recipe below changes.
const RECIPE: &str = "2";

/// Packages whose versions decide what comes out.
pub(super) const TOOLS: &[&str] = &[
    LINUX_SOURCE,
    "gcc-14",
    "binutils",
    "rustc",
    "rust-src",
    "bindgen",
];

/// Where the entry is mounted during builds. Build trees hold absolute paths,
/// so it must be the same for the kernel and all modules.
pub(super) const MOUNTED_AT: &str = "/kernel";

/// What builds with clang need besides [`TOOLS`].
pub(super) const CLANG_TOOLS: &[&str] = &["clang-19", "lld-19", "llvm-19"];

/// Argument of every `make` in a build tree that clang builds.
pub(super) const BY_CLANG: &str = "LLVM=1";

/// Finds or builds the kernel from a configuration fragment; `arguments` is empty or [`BY_CLANG`].
/// Returns the entry: `src` and `build`.
pub(super) fn ensure_kernel(
    cache: &Cache,
    rootfs: &Rootfs,
    fragment: &str,
    arguments: &str,
) -> Result<PathBuf> {
    let clang: &[_] = match arguments {
        "" => &[],
        _ => CLANG_TOOLS,
    };
    let key = key(RECIPE, fragment, rootfs, &[TOOLS, clang].concat());
    cache.entry("kernel", &key, 5, |aside| {
        build(aside, rootfs, fragment, arguments)
    })
}

/// The key of a kernel's entry. Comments of the fragment decide nothing.
pub(super) fn key(recipe: &str, fragment: &str, rootfs: &Rootfs, tools: &[&str]) -> String {
    let versions = rootfs.manifest.lines().filter(|line| {
        line.split_once(' ')
            .is_some_and(|(package, _)| tools.contains(&package))
    });
    let inputs = [recipe]
        .into_iter()
        .chain(options(fragment))
        .chain(versions);
    cache::key(inputs)
}

fn build(aside: &Path, rootfs: &Rootfs, fragment: &str, arguments: &str) -> Result<()> {
    let sandbox = Sandbox::new(&rootfs.tree).mount(aside, MOUNTED_AT, true);
    let mut unpack = sandbox.command(&format!(
        "mkdir {MOUNTED_AT}/src && tar --extract --xz --no-same-owner --strip-components=1 \
         --file=/usr/src/{LINUX_SOURCE}.tar.xz --directory={MOUNTED_AT}/src"
    ));
    progress::step(
        "unpack the kernel's source",
        &mut unpack,
        &aside.join("unpack.log"),
    )?;
    let recipe = Recipe {
        name: "the kernel",
        mounted_at: MOUNTED_AT,
        arguments,
        targets: "bzImage modules",
        image: "arch/x86/boot/bzImage",
    };
    configure_and_make(aside, &sandbox, fragment, &recipe)
}

/// How one kernel is made of the source at [`MOUNTED_AT`].
pub(super) struct Recipe<'a> {
    /// What the steps are called.
    pub(super) name: &'a str,
    /// Where the entry is mounted in the sandbox.
    pub(super) mounted_at: &'a str,
    /// Further arguments of every `make`.
    pub(super) arguments: &'a str,
    /// Targets of the last `make`.
    pub(super) targets: &'a str,
    /// The file that has to be there at the end, relative to the build tree.
    pub(super) image: &'a str,
}

/// Configures a kernel from `fragment` and builds it in the folder `build` of the entry `aside`.
pub(super) fn configure_and_make(
    aside: &Path,
    sandbox: &Sandbox,
    fragment: &str,
    recipe: &Recipe<'_>,
) -> Result<()> {
    fs::create_dir_all(aside.join("build"))?;
    fs::write(aside.join("fragment"), fragment)?;
    let (name, at) = (recipe.name, recipe.mounted_at);
    let make = format!("make -C {MOUNTED_AT}/src O={at}/build {}", recipe.arguments);
    let run = |verb: &str, script: &str, log: &str| {
        let step = format!("{verb} {name}");
        progress::step(&step, &mut sandbox.command(script), &aside.join(log))
    };
    run(
        "configure",
        &format!("{make} KCONFIG_ALLCONFIG={at}/fragment allnoconfig"),
        "configure.log",
    )?;
    let config = fs::read_to_string(aside.join("build/.config"))?;
    let lost = lost_options(fragment, &config);
    ensure!(
        lost.is_empty(),
        "the configuration of {name} does not take these (a dependency is off, or the symbol has \
         no prompt): {}",
        lost.join(", ")
    );
    let jobs = thread::available_parallelism().map_or(2, usize::from);
    run(
        "build",
        &format!("{make} -j{jobs} {}", recipe.targets),
        "build.log",
    )?;
    let image = aside.join("build").join(recipe.image);
    fs::metadata(&image).with_context(|| format!("{}", image.display()))?;
    Ok(())
}

/// The lines of a fragment that set something.
fn options(fragment: &str) -> impl Iterator<Item = &str> {
    fragment
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CONFIG_"))
}

/// A fragment with those options of `base` that `over` does not set, and then `over`.
pub(super) fn overlaid(base: &str, over: &str) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = options(over).map(name).collect();
    let mut text = String::new();
    for line in base.lines() {
        if !set.contains(&name(line.trim())) {
            text += line;
            text += "\n";
        }
    }
    text + over
}

/// Options of the fragment that the configuration does not have as wanted.
fn lost_options<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let has = |wanted: &str| config.lines().any(|line| line == wanted);
    options(fragment)
        .filter(|line| match line.strip_suffix("=n") {
            Some(name) => config.lines().any(|l| l.starts_with(&format!("{name}="))),
            None => !has(line),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_fragment_wins() {
        let base = "# why\nCONFIG_A=y\nCONFIG_AB=y\n";
        let text = overlaid(base, "# because\nCONFIG_A=n\n");
        assert_eq!(text, "# why\nCONFIG_AB=y\n# because\nCONFIG_A=n\n");
    }

    #[test]
    fn options_that_did_not_survive_are_named() {
        let fragment = "# why\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=y\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=y\n";
        assert_eq!(
            lost_options(fragment, config),
            ["CONFIG_B=m", "CONFIG_D=n", "CONFIG_E=y"]
        );
    }
}
