// SPDX-License-Identifier: GPL-2.0

//! The debugfs directory of the module, which has one directory for each device.

use super::global::Global;
use kernel::{
    debugfs::Dir,
    prelude::*,
    static_lock_class, //
};

/// The directory of the module, while a [`Root`] exists.
static ROOT: Global<Option<Dir>> = Global::new();

/// Owner of the module's directory, which it removes when dropped. It is the last field of the
/// module's struct, so that the drivers are unregistered before.
pub(crate) struct Root(());

impl Root {
    /// Creates the directory. Called once, when the module is loaded.
    ///
    /// # Errors
    ///
    /// `EBUSY` on a second call.
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

/// Returns the module's directory, or `None` without a [`Root`].
pub(crate) fn root() -> Option<Dir> {
    ROOT.lock().ok()?.clone()
}

/// Creates a directory below the module's. `None` without a [`Root`].
pub(crate) fn subdir(name: &CStr) -> Option<Dir> {
    Some(ROOT.lock().ok()?.as_ref()?.subdir(name))
}
