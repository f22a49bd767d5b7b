// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a run consists of: built when needed, kept in the cache.
//!
//! | what            | where                        | built again when                |
//! |-----------------|------------------------------|---------------------------------|
//! | root file system| `rootfs/<key>`               | the package list changes        |
//! | kernel          | `kernel/<key>`               | fragment or tool versions change|
//! | native kernels  | `native*/<key>`              | fragment, tool versions or, for |
//! |                 |                              | the patched one, patches change |
//! | QEMU of trixie  | `old-qemu/<key>`             | the root file system changes    |
//! | selftests       | `selftests/<key>`            | kernel or root file system      |
//! |                 |                              | changes                         |
//! | Debian's kernel | `distro-kernel/<key>`        | the root file system changes    |
//! | driver          | `trees/<tree>/module`        | `make` says so                  |
//! | native driver   | `trees/<tree>/module-native*`| `make` says so                  |
//! | programs        | `trees/<tree>/static`        | cargo says so                   |
//! | guest           | `trees/<tree>/guest.cpio`    | each time (it takes no time)    |

mod beds;
pub mod cache;
pub(crate) mod distro_kernel;
mod guest;
mod kernel;
pub mod module;
pub mod native;
mod old_qemu;
pub(crate) mod programs;
mod rootfs;
pub mod sandbox;
mod selftests;
mod upstream;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use cache::Cache;

use crate::progress;

/// Variables that name artefacts, to hand them to child processes or to use
/// others than those of the cache.
const ROOTFS: &str = "DLR_ROOTFS";
const KERNEL: &str = "DLR_KERNEL";
const PROGRAMS: &str = "DLR_PROGRAMS";
const MODULE: &str = "DLR_MODULE";
const GUEST: &str = "DLR_GUEST";
const RESULTS: &str = "DLR_RESULTS";

/// Paths of everything that a host box needs.
#[derive(Debug, Clone)]
pub struct Artefacts {
    /// The root file system of the box.
    pub rootfs: PathBuf,
    /// The build tree of the box's kernel.
    pub kernel: PathBuf,
    /// Folder with the static programs.
    pub programs: PathBuf,
    /// The driver, if the tree has one.
    pub module: Option<PathBuf>,
    /// Initramfs of the guests.
    pub guest: Option<PathBuf>,
    /// Folder below which each run makes its folder of results.
    pub results: PathBuf,
}

fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}

impl Artefacts {
    /// What the environment names, and for the rest what the cache holds or
    /// what has to be built.
    ///
    /// # Errors
    ///
    /// Says what is missing and what to do about it.
    pub fn find() -> Result<Self> {
        Workshop::open()?.artefacts()
    }

    /// The kernel image.
    pub fn bzimage(&self) -> PathBuf {
        self.kernel.join("arch/x86/boot/bzImage")
    }

    /// Variables that make [`Artefacts::find`] in a child process return the
    /// same without building anything.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        let mut list = vec![
            (ROOTFS, self.rootfs.clone()),
            (KERNEL, self.kernel.clone()),
            (PROGRAMS, self.programs.clone()),
            (RESULTS, self.results.clone()),
        ];
        list.extend(self.module.clone().map(|path| (MODULE, path)));
        list.extend(self.guest.clone().map(|path| (GUEST, path)));
        list
    }
}

/// Builds artefacts for one work tree.
pub struct Workshop {
    cache: Cache,
    tree: PathBuf,
    products: PathBuf,
    checks: Checks,
}

/// How much the kernel of the box checks itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    /// What tests need: `configs/hostbox.config`.
    Usual,
    /// As much as it can: `configs/debug.config` too.
    Many,
    /// Nothing: `configs/release.config` too.
    None,
}

impl Workshop {
    /// Opens the cache for the work tree that this program was built from.
    ///
    /// # Errors
    ///
    /// The cache cannot be written, or the tree is gone.
    pub fn open() -> Result<Self> {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let tree = fs::canonicalize(&tree)
            .with_context(|| format!("the work tree {} is gone", tree.display()))?;
        let cache = Cache::open()?;
        let products = cache.root().join("trees").join(cache::tree_name(&tree));
        fs::create_dir_all(&products)?;
        Ok(Self {
            cache,
            tree,
            products,
            checks: Checks::Usual,
        })
    }

    /// With the kernel that checks itself: `configs/debug.config`.
    pub fn debug(mut self) -> Self {
        self.checks = Checks::Many;
        self
    }

    /// With a kernel that checks nothing, for benchmarks: `configs/release.config`.
    pub fn release(mut self) -> Self {
        self.checks = Checks::None;
        self
    }

    /// See [`Workshop::debug`].
    pub fn is_debug(&self) -> bool {
        self.checks == Checks::Many
    }

    /// Top of the work tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// Folder for what is built from the work tree.
    pub fn products(&self) -> &Path {
        &self.products
    }

    /// The root file system.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn rootfs(&self) -> Result<PathBuf> {
        match from_env(ROOTFS) {
            Some(path) => Ok(path),
            None => Ok(rootfs::ensure_rootfs(&self.cache)?.tree),
        }
    }

    /// The program of an older QEMU, for the box, with the root file system's libraries.
    ///
    /// # Errors
    ///
    /// It cannot be fetched.
    pub fn old_qemu(&self) -> Result<PathBuf> {
        old_qemu::ensure(&self.cache, &self.rootfs()?)
    }

    /// A folder with the kernel's own VFIO selftests, for the box.
    ///
    /// # Errors
    ///
    /// They cannot be built.
    pub fn selftests(&self) -> Result<PathBuf> {
        let kernel = self.kernel()?;
        let top = kernel.parent().context("a kernel needs a folder")?;
        selftests::ensure(&self.cache, &self.rootfs()?, top)
    }

    /// A folder with a kernel as Debian ships it, for guests: `vmlinuz`, and an initramfs
    /// `modules.cpio` to be put behind the guests' own.
    ///
    /// # Errors
    ///
    /// It cannot be fetched.
    pub fn distro_kernel(&self) -> Result<PathBuf> {
        distro_kernel::ensure(&self.cache, &self.rootfs()?)
    }

    /// The kernel's build tree.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn kernel(&self) -> Result<PathBuf> {
        if let Some(path) = from_env(KERNEL) {
            return Ok(path);
        }
        let rootfs = rootfs::ensure_rootfs(&self.cache)?;
        let configs = self.tree.join("tools/testing/configs");
        let read = |name: &str| {
            let path = configs.join(name);
            fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
        };
        let mut fragment = read("hostbox.config")?;
        match self.checks {
            Checks::Usual => (),
            Checks::Many => fragment += &read("debug.config")?,
            Checks::None => fragment = kernel::overlaid(&fragment, &read("release.config")?),
        }
        Ok(kernel::ensure_kernel(&self.cache, &rootfs, &fragment)?.join("build"))
    }

    /// The driver for the box's kernel; `None` if the tree has no driver.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn module(&self) -> Result<Option<PathBuf>> {
        if let Some(path) = from_env(MODULE) {
            return Ok(Some(path));
        }
        if !self.tree.join("Kbuild").exists() {
            return Ok(None);
        }
        self.build_module("module", "").map(Some)
    }

    /// Builds the driver for the box's kernel with further arguments of
    /// `make`, in a copy of its own.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn build_module(&self, variant: &str, arguments: &str) -> Result<PathBuf> {
        self.build_project(&module::Project::driver(&self.tree), variant, arguments)
    }

    /// Builds the drivers of `samples/vfio` for the box's kernel, with further arguments of `make`.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn build_samples(&self, variant: &str, arguments: &str) -> Result<PathBuf> {
        let project = module::Project::samples(&self.tree);
        self.build_project(&project, variant, &format!("SAMPLES=y {arguments}"))
    }

    /// The same for any module.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub(crate) fn build_project(
        &self,
        project: &module::Project,
        variant: &str,
        arguments: &str,
    ) -> Result<PathBuf> {
        let (rootfs, build) = (self.rootfs()?, self.kernel()?);
        // Products for one kernel must not be taken for those for the other.
        let variant = match self.checks {
            Checks::Usual => variant.to_string(),
            Checks::Many => format!("{variant}-debug"),
            Checks::None => format!("{variant}-release"),
        };
        let kernel = module::Kernel::Box {
            rootfs: &rootfs,
            build: &build,
        };
        module::build(
            &self.cache,
            project,
            &self.products,
            &variant,
            &kernel,
            arguments,
        )
    }

    /// Builds the driver for a kernel build tree of this machine.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn build_module_for(&self, kdir: &Path) -> Result<PathBuf> {
        let variant = format!("module-{}", cache::tree_name(kdir));
        let kernel = module::Kernel::Host(kdir);
        module::build(
            &self.cache,
            &module::Project::driver(&self.tree),
            &self.products,
            &variant,
            &kernel,
            "",
        )
    }

    /// The script that runs bindgen.
    ///
    /// # Errors
    ///
    /// The root file system cannot be built.
    pub fn bindgen(&self) -> Result<PathBuf> {
        programs::bindgen_wrapper(&self.rootfs()?, &self.products)
    }

    /// cargo for this workspace: its products stay out of the tree, and
    /// bindgen is there.
    ///
    /// # Errors
    ///
    /// The root file system cannot be built.
    pub fn cargo(&self) -> Result<Command> {
        let mut command = Command::new(programs::cargo());
        command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", self.products.join("host"))
            .env("DLR_BINDGEN", self.bindgen()?);
        Ok(command)
    }

    /// Formats the driver, or only checks its format, with the kernel's
    /// configuration and the rustfmt of the root file system: the style must
    /// not depend on this machine's version.
    ///
    /// # Errors
    ///
    /// rustfmt's words, in a check those about the first difference.
    pub fn format_driver(&self, check: bool) -> Result<()> {
        let kernel = self.kernel()?;
        let top = kernel.parent().context("a kernel needs a folder")?;
        let script = format!(
            "cd {}; rustfmt --edition 2021 --config-path {}/src/.rustfmt.toml {} \
             drivers/vfio/pci/dlr/main.rs samples/vfio/main.rs",
            sandbox::TREE_AT,
            kernel::MOUNTED_AT,
            if check { "--check" } else { "" },
        );
        let mut command = sandbox::Sandbox::new(&self.rootfs()?)
            .mount(top, kernel::MOUNTED_AT, false)
            .mount(&self.tree, sandbox::TREE_AT, !check)
            .command(&script);
        let log = self.products.join("rustfmt-driver.log");
        progress::step("rustfmt of the driver", &mut command, &log)
    }

    /// The static programs.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn programs(&self) -> Result<PathBuf> {
        match from_env(PROGRAMS) {
            Some(path) => Ok(path),
            None => programs::build(&self.tree, &self.products, &self.bindgen()?),
        }
    }

    /// The static programs of another tree, built in a folder `name` of their own.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub(crate) fn programs_of(&self, tree: &Path, name: &str) -> Result<PathBuf> {
        programs::build(tree, &self.products.join(name), &self.bindgen()?)
    }

    /// The guests' initramfs.
    ///
    /// # Errors
    ///
    /// The programs cannot be built.
    pub fn guest(&self, programs: &Path) -> Result<PathBuf> {
        match from_env(GUEST) {
            Some(path) => Ok(path),
            None => guest::build(&self.rootfs()?, programs, &self.products),
        }
    }

    /// Everything.
    ///
    /// # Errors
    ///
    /// Says what is missing and what to do about it.
    pub fn artefacts(&self) -> Result<Artefacts> {
        let rootfs = self.rootfs()?;
        let kernel = self.kernel()?;
        let programs = self.programs()?;
        let module = self.module()?;
        let guest = self.guest(&programs)?;
        Ok(Artefacts {
            rootfs,
            kernel,
            programs,
            module,
            guest: Some(guest),
            results: from_env(RESULTS).unwrap_or_else(|| self.products.join("results")),
        })
    }
}
