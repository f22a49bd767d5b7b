// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Variables that name artefacts.

use std::{env, path::PathBuf};

/// Variables that name artefacts, to hand them to child processes or to use
/// others than those of the cache.
pub(super) const ROOTFS: &str = "DLR_ROOTFS";
pub(super) const KERNEL: &str = "DLR_KERNEL";
pub(super) const PROGRAMS: &str = "DLR_PROGRAMS";
pub(super) const MODULE: &str = "DLR_MODULE";
pub(super) const GUEST: &str = "DLR_GUEST";
pub(super) const RESULTS: &str = "DLR_RESULTS";

pub(super) fn from_env(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
}
