// SPDX-License-Identifier: GPL-2.0

//! One debugfs directory for the module, under which every device makes its own.

use super::global::Global;
use kernel::{
    debugfs::Dir,
    prelude::*,
    static_lock_class, //
};

static ROOT: Global<Option<Dir>> = Global::new();

/// Keeps the module's directory. Belongs into the module's struct, as its last field: it removes the
/// directory when dropped.
pub(crate) struct Root(());

impl Root {
    /// Makes the directory. Once per load of the module.
    ///
    /// # Errors
    ///
    /// `EBUSY` when it was made before.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        ROOT.init(Some(Dir::new(name)), c"debugfs_root", static_lock_class!())?;
        Ok(Self(()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Ok(mut root) = ROOT.lock() {
            *root = None;
        }
    }
}

/// The module's directory. `None` when there is none.
pub(crate) fn root() -> Option<Dir> {
    ROOT.lock().ok()?.clone()
}

/// A directory below the module's. `None` when the module has none.
pub(crate) fn subdir(name: &CStr) -> Option<Dir> {
    Some(ROOT.lock().ok()?.as_ref()?.subdir(name))
}
