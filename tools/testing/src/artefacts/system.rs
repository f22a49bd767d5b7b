// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [`Workshop`]: root file systems, kernels and programs of others.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{
    distro_kernel,
    environment::{from_env, KERNEL, ROOTFS},
    kernel, old_qemu, rootfs, selftests,
    workshop::{Checks, Workshop},
};

impl Workshop {
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
            Checks::Many => fragment = kernel::overlaid(&fragment, &read("debug.config")?),
            Checks::None => fragment = kernel::overlaid(&fragment, &read("release.config")?),
        }
        let entry =
            kernel::ensure_kernel(&self.cache, &rootfs, &fragment, self.checks.arguments())?;
        Ok(entry.join("build"))
    }
}
