// SPDX-License-Identifier: GPL-2.0

//! The trait that makes the files of sessions, which tests implement without VFIO.

use crate::vfio::migration_file::{
    Resume,
    Save, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// Makes the files of sessions.
pub(crate) trait Files {
    /// A file before VFIO gives it to the user. Dropping it closes it.
    type File;

    /// Makes the file from which the user reads the state of the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    fn save<S: Save>(&self, session: Arc<S>) -> Result<Self::File>;

    /// Makes the file to which the user writes the state of the device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENFILE`.
    fn load<R: Resume>(&self, session: Arc<R>) -> Result<Self::File>;
}
