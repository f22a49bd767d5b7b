// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [`Workshop`]: what native runs need.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{
    module::{self, Project},
    native::{ensure_native, Flavour, Machine, Native},
    rootfs, upstream,
    workshop::Workshop,
};

impl Workshop {
    /// A kernel that runs as a program of this machine, and the modules for it.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn native(&self, flavour: Flavour) -> Result<Native> {
        self.native_of(flavour, &Project::driver(&self.tree), "module")
    }

    /// The same with the driver of another tree; `kind` names the folder it is built in.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub(crate) fn native_of(
        &self,
        flavour: Flavour,
        driver: &Project,
        kind: &str,
    ) -> Result<Native> {
        let (machine, source) = self.machine(flavour)?;
        let build = |project: &Project, kind: &str| {
            self.native_module(&machine, &source, flavour, project, kind, "")
        };
        let module = build(driver, kind)?;
        let control = build(&Project::control(&self.tree), "control")?;
        Ok(Native {
            machine,
            module,
            control,
        })
    }

    /// The kernel for benchmarks, and the driver of `tree` with its benchmark in it, which is
    /// built in the folder `name` of the products.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn bench(&self, tree: &Path, name: &str) -> Result<(Machine, PathBuf)> {
        let flavour = Flavour::Bench;
        let (machine, source) = self.machine(flavour)?;
        let project = Project::driver(tree);
        let module =
            self.native_module(&machine, &source, flavour, &project, name, "DLR_BENCH=y")?;
        Ok((machine, module))
    }

    fn machine(&self, flavour: Flavour) -> Result<(Machine, PathBuf)> {
        let rootfs = rootfs::ensure_rootfs(&self.cache)?;
        let build = self.kernel()?;
        let source = build.parent().context("a kernel needs a folder")?;
        let entry = match flavour {
            Flavour::Upstream => upstream::ensure(&self.cache, &rootfs, source, &self.tree)?,
            _ => ensure_native(&self.cache, &rootfs, source, &self.tree, flavour)?,
        };
        let source = match flavour {
            Flavour::Upstream => entry.clone(),
            _ => source.to_path_buf(),
        };
        let machine = Machine {
            name: flavour.name(),
            rootfs: rootfs.tree,
            kernel: entry,
        };
        Ok((machine, source))
    }

    fn native_module(
        &self,
        machine: &Machine,
        source: &Path,
        flavour: Flavour,
        project: &Project,
        kind: &str,
        arguments: &str,
    ) -> Result<PathBuf> {
        let kernel = module::Kernel::Native {
            rootfs: &machine.rootfs,
            source,
            entry: &machine.kernel,
            flavour,
        };
        let variant = format!("{kind}-{}", flavour.name());
        let products = &self.products;
        module::build(&self.cache, project, products, &variant, &kernel, arguments)
    }
}
