// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The driver, built out of tree in a copy of its sources: the work tree stays
//! clean, and `make` still rebuilds only what changed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{ensure, Context, Result};

use super::{
    cache::{remove_tree, Cache},
    kernel::MOUNTED_AT,
    native::{self, Flavour, NATIVE_AT},
    sandbox::{Sandbox, TREE_AT},
};
use crate::progress;

/// A module that is built out of tree.
pub struct Project {
    /// Folder of the sources.
    pub top: PathBuf,
    /// Files and folders that it is built from, relative to `top`.
    pub sources: &'static [&'static str],
    /// File name of the module.
    pub name: &'static str,
}

impl Project {
    /// The driver of a work tree.
    pub fn driver(tree: &Path) -> Self {
        Self {
            top: tree.to_path_buf(),
            sources: &["Kbuild", "drivers", "include"],
            name: "dlr_vfio_pci.ko",
        }
    }

    /// The drivers of `samples/vfio`, of a work tree.
    pub fn samples(tree: &Path) -> Self {
        Self {
            top: tree.to_path_buf(),
            sources: &["Kbuild", "drivers", "include", "samples/vfio"],
            name: "vfio_samples.ko",
        }
    }

    /// The module that does wrong, of a work tree.
    pub fn control(tree: &Path) -> Self {
        Self {
            top: tree.join("tools/testing/control"),
            sources: &["Kbuild", "dlr_control.c"],
            name: "dlr_control.ko",
        }
    }

    /// The module that fills and empties pipes, of a work tree.
    pub fn feed(tree: &Path) -> Self {
        Self {
            top: tree.join("tools/testing/feed"),
            sources: &["Kbuild", "dlr_feed.c"],
            name: "dlr_feed.ko",
        }
    }
}

/// List of the files copied last time, to notice which ones went away.
const COPIED: &str = "copied";

/// The kernel to build for.
pub enum Kernel<'a> {
    /// The one of the host box, in its sandbox.
    Box {
        /// Root file system with the toolchain.
        rootfs: &'a Path,
        /// The kernel's build tree, `build` beside `src`.
        build: &'a Path,
        /// Arguments that the kernel was built with.
        arguments: &'static str,
    },
    /// A native one, in its sandbox.
    Native {
        /// Root file system with the toolchain.
        rootfs: &'a Path,
        /// The folder with the kernel's source.
        source: &'a Path,
        /// The kernel's entry, which holds its build tree.
        entry: &'a Path,
        /// Which one it is.
        flavour: Flavour,
    },
    /// A prepared build tree of this machine, with this machine's toolchain.
    Host(&'a Path),
}

/// Builds the module and returns its path. `variant` names the copy of the
/// sources, since other arguments of `make` would rebuild everything.
///
/// # Errors
///
/// The compiler's words.
pub fn build(
    cache: &Cache,
    project: &Project,
    products: &Path,
    variant: &str,
    kernel: &Kernel<'_>,
    arguments: &str,
) -> Result<PathBuf> {
    let tree = &project.top;
    ensure!(
        tree.join("Kbuild").exists(),
        "there is no Kbuild in {}: nothing to build {} from",
        tree.display(),
        project.name
    );
    let folder = products.join(variant);
    let source = folder.join("src");
    let _lock = cache.lock(&format!("{variant}-{}", super::cache::tree_name(tree)))?;
    fs::create_dir_all(&source)?;
    copy_sources(project, &folder, &source)?;
    let mut command = match kernel {
        Kernel::Box {
            rootfs,
            build,
            arguments: kernel_arguments,
        } => {
            let sandbox = Sandbox::new(rootfs).mount(&source, TREE_AT, true);
            // A tree that was built inside the root file system stays there,
            // since build trees hold absolute paths.
            let (sandbox, kdir) = match build.strip_prefix(rootfs) {
                Ok(inside) => (sandbox, Path::new("/").join(inside)),
                Err(_) => {
                    let top = build.parent().context("a kernel needs a folder")?;
                    let name = build.file_name().context("a kernel needs a name")?;
                    let sandbox = sandbox.mount(top, MOUNTED_AT, false);
                    (sandbox, Path::new(MOUNTED_AT).join(name))
                }
            };
            sandbox.command(&format!(
                "make -C {} M={TREE_AT} {kernel_arguments} {arguments} modules",
                kdir.display()
            ))
        }
        Kernel::Native {
            rootfs,
            source: kernel_source,
            entry,
            flavour,
        } => native::sandbox(rootfs, kernel_source)?
            .mount(entry, NATIVE_AT, false)
            .mount(&source, TREE_AT, true)
            .command(&format!(
                "make -C {NATIVE_AT}/build M={TREE_AT} {} {arguments} modules",
                flavour.arguments()
            )),
        Kernel::Host(build) => {
            let mut command = Command::new("make");
            command
                .arg("-C")
                .arg(build)
                .arg(format!("M={}", source.display()))
                .args(arguments.split_whitespace())
                .arg("modules");
            command
        }
    };
    progress::step(
        &format!("build {} ({variant})", project.name),
        &mut command,
        &folder.join("make.log"),
    )?;
    // Runs hard-link the module: what they hold must not change under them.
    let (built, module) = (source.join(project.name), folder.join(project.name));
    let fresh = folder.join("fresh.ko");
    fs::copy(&built, &fresh).with_context(|| format!("{} was not built", built.display()))?;
    fs::rename(fresh, &module)?;
    Ok(module)
}

/// Brings the copy up to date; files that did not change keep their times.
fn copy_sources(project: &Project, folder: &Path, source: &Path) -> Result<()> {
    let tree = &project.top;
    let mut files = BTreeSet::new();
    for top in project.sources {
        collect(tree, Path::new(top), &mut files)?;
    }
    let list = folder.join(COPIED);
    for old in fs::read_to_string(&list).unwrap_or_default().lines() {
        if !files.contains(Path::new(old)) {
            remove_tree(&source.join(old))?;
        }
    }
    for file in &files {
        let (from, to) = (tree.join(file), source.join(file));
        let contents = fs::read(&from).with_context(|| format!("{}", from.display()))?;
        if fs::read(&to).ok().as_deref() != Some(&contents) {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&to, contents)?;
        }
    }
    let text: Vec<_> = files.iter().map(|f| f.to_string_lossy()).collect();
    Ok(fs::write(list, text.join("\n"))?)
}

/// Source files below `path`; products of a build in the tree stay behind.
pub(crate) fn collect(tree: &Path, path: &Path, files: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let full = tree.join(path);
    if full.is_file() {
        files.insert(path.to_path_buf());
    } else if full.is_dir() {
        for entry in fs::read_dir(full)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let product = name.starts_with('.')
                || name.contains("_generated.rs")
                || [".o", ".ko", ".a", ".mod", ".mod.c", ".order", ".symvers"]
                    .iter()
                    .any(|suffix| name.ends_with(suffix));
            if !product {
                collect(tree, &path.join(entry.file_name()), files)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_follows_the_tree_without_touching_what_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, products) = (folder.path().join("tree"), folder.path().join("products"));
        let source = products.join("src");
        fs::create_dir_all(tree.join("drivers/a")).unwrap();
        fs::create_dir_all(&source).unwrap();
        for file in [
            "Kbuild",
            "drivers/a/x.rs",
            "drivers/a/y.rs",
            "drivers/a/x.o",
        ] {
            fs::write(tree.join(file), file).unwrap();
        }
        copy_sources(&Project::driver(&tree), &products, &source).unwrap();
        assert!(!source.join("drivers/a/x.o").exists());
        let before = fs::metadata(source.join("drivers/a/x.rs")).unwrap();
        // A product of the build in the copy must survive, a removed source not.
        fs::write(source.join("drivers/a/x.o"), "").unwrap();
        fs::remove_file(tree.join("drivers/a/y.rs")).unwrap();
        fs::write(tree.join("Kbuild"), "new").unwrap();
        copy_sources(&Project::driver(&tree), &products, &source).unwrap();
        assert!(!source.join("drivers/a/y.rs").exists());
        assert!(source.join("drivers/a/x.o").exists());
        assert_eq!(fs::read_to_string(source.join("Kbuild")).unwrap(), "new");
        let after = fs::metadata(source.join("drivers/a/x.rs")).unwrap();
        assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    }
}
