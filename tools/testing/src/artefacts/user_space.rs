// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [`Workshop`]: the programs of user space, and what builds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{
    environment::{from_env, GUEST, PROGRAMS},
    guest, programs,
    workshop::Workshop,
};

impl Workshop {
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
}
