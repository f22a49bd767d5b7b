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
const TOOLS: &[&str] = &[
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

/// Finds or builds the kernel from a configuration fragment. Returns the
/// entry: `src` and `build`.
pub(super) fn ensure_kernel(cache: &Cache, rootfs: &Rootfs, fragment: &str) -> Result<PathBuf> {
    let versions = rootfs.manifest.lines().filter(|line| {
        line.split_once(' ')
            .is_some_and(|(package, _)| TOOLS.contains(&package))
    });
    // Comments decide nothing.
    let inputs = [RECIPE]
        .into_iter()
        .chain(options(fragment))
        .chain(versions);
    cache.entry("kernel", &cache::key(inputs), 5, |aside| {
        build(aside, rootfs, fragment)
    })
}

fn build(aside: &Path, rootfs: &Rootfs, fragment: &str) -> Result<()> {
    fs::create_dir_all(aside.join("build"))?;
    fs::write(aside.join("fragment"), fragment)?;
    let sandbox = Sandbox::new(&rootfs.tree).mount(aside, MOUNTED_AT, true);
    let run = |name: &str, script: &str, log: &str| {
        progress::step(name, &mut sandbox.command(script), &aside.join(log))
    };
    run(
        "unpack the kernel's source",
        &format!(
            "mkdir {MOUNTED_AT}/src && tar --extract --xz --no-same-owner --strip-components=1 \
             --file=/usr/src/{LINUX_SOURCE}.tar.xz --directory={MOUNTED_AT}/src"
        ),
        "unpack.log",
    )?;
    run(
        "configure the kernel",
        &format!(
            "make -C {MOUNTED_AT}/src O=../build KCONFIG_ALLCONFIG={MOUNTED_AT}/fragment \
             allnoconfig"
        ),
        "configure.log",
    )?;
    let config = fs::read_to_string(aside.join("build/.config"))?;
    let lost = lost_options(fragment, &config);
    ensure!(
        lost.is_empty(),
        "the kernel's configuration does not take these (a dependency is off, or the symbol has \
         no prompt): {}",
        lost.join(", ")
    );
    let jobs = thread::available_parallelism().map_or(2, usize::from);
    run(
        "build the kernel",
        &format!("make -C {MOUNTED_AT}/src O=../build -j{jobs} bzImage modules"),
        "build.log",
    )?;
    let image = aside.join("build/arch/x86/boot/bzImage");
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
    fn options_that_did_not_survive_are_named() {
        let fragment = "# why\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\nCONFIG_D=n\nCONFIG_E=y\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\nCONFIG_D=y\n";
        assert_eq!(
            lost_options(fragment, config),
            ["CONFIG_B=m", "CONFIG_D=n", "CONFIG_E=y"]
        );
    }
}
