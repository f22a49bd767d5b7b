// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a run consists of: built once, kept in the cache.

use std::{env, path::PathBuf};

use anyhow::{bail, Result};

/// Paths of everything that a host box needs.
#[derive(Debug, Clone)]
pub struct Artefacts {
    /// The root file system of the box.
    pub rootfs: PathBuf,
    /// The build tree of the box's kernel.
    pub kernel: PathBuf,
    /// Folder with the static programs.
    pub programs: PathBuf,
    /// The driver, once it is built.
    pub module: Option<PathBuf>,
    /// Initramfs of the guests.
    pub guest: Option<PathBuf>,
    /// Folder below which each run makes its folder of results.
    pub results: PathBuf,
}

impl Artefacts {
    /// Takes paths from the environment: `DLR_ROOTFS`, `DLR_KERNEL`,
    /// `DLR_PROGRAMS`, `DLR_MODULE`, `DLR_GUEST`, `DLR_RESULTS`.
    ///
    /// # Errors
    ///
    /// One that is needed is not set.
    pub fn from_env() -> Result<Self> {
        let get = |name: &str| env::var_os(name).map(PathBuf::from);
        let Some(rootfs) = get("DLR_ROOTFS") else {
            bail!("DLR_ROOTFS is not set")
        };
        let Some(kernel) = get("DLR_KERNEL") else {
            bail!("DLR_KERNEL is not set")
        };
        let Some(programs) = get("DLR_PROGRAMS") else {
            bail!("DLR_PROGRAMS is not set")
        };
        Ok(Self {
            rootfs,
            kernel,
            programs,
            module: get("DLR_MODULE"),
            guest: get("DLR_GUEST"),
            results: get("DLR_RESULTS").unwrap_or_else(|| env::temp_dir().join("dlr-results")),
        })
    }

    /// The kernel image.
    pub fn bzimage(&self) -> PathBuf {
        self.kernel.join("arch/x86/boot/bzImage")
    }
}

impl Artefacts {
    /// What the environment names, or what the cache holds.
    ///
    /// # Errors
    ///
    /// See [`Artefacts::from_env`].
    pub fn find() -> Result<Self> {
        Self::from_env()
    }
}
