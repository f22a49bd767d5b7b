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
//!
//! | module          | knows                                                            |
//! |-----------------|------------------------------------------------------------------|
//! | `workshop`      | the work tree and the cache                                      |
//! | `system`, `beds`| how [`Workshop`] finds kernels and root file systems             |
//! | `drivers`       | how it builds modules                                            |
//! | `user_space`    | how it builds programs                                           |
//! | `environment`   | variables that name artefacts                                    |

mod beds;
pub mod cache;
pub(crate) mod distro_kernel;
mod drivers;
mod environment;
mod guest;
mod kernel;
pub mod module;
pub mod native;
mod old_qemu;
pub(crate) mod programs;
mod rootfs;
pub mod sandbox;
mod selftests;
mod system;
mod upstream;
mod user_space;
mod workshop;

use std::path::PathBuf;

use anyhow::Result;

use self::environment::{from_env, GUEST, KERNEL, MODULE, PROGRAMS, RESULTS, ROOTFS};
pub use self::workshop::Workshop;

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

impl Workshop {
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
