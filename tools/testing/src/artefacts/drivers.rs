// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [`Workshop`]: the driver and other modules for the box's kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    cache,
    environment::{from_env, MODULE},
    kernel, module, sandbox,
    workshop::{Checks, Workshop},
};
use crate::progress;

impl Workshop {
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
            arguments: self.checks.arguments(),
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
}
