// SPDX-License-Identifier: Apache-2.0 OR MIT

//! [`Workshop`] itself: of which work tree, and for which kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    cache::{self, Cache},
    kernel,
};

/// Builds artefacts for one work tree.
pub struct Workshop {
    pub(super) cache: Cache,
    pub(super) tree: PathBuf,
    pub(super) products: PathBuf,
    pub(super) checks: Checks,
}

/// How much the kernel of the box checks itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    /// What tests need: `configs/hostbox.config`.
    Usual,
    /// As much as it can: `configs/debug.config` too.
    Many,
    /// Nothing: `configs/release.config` too.
    None,
}

impl Checks {
    /// What every `make` in the kernel's build tree needs: with Rust, KASAN requires clang.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::Usual | Self::None => "",
            Self::Many => kernel::BY_CLANG,
        }
    }
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
}
