// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the driver's files use of the kernel crate and of the rest of the layer.

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Error(i32);

/// `kernel::error::Result`.
pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

pub(crate) const EIO: Error = Error(5);
pub(crate) const ENOMEM: Error = Error(12);
pub(crate) const ENODEV: Error = Error(19);
pub(crate) const EINVAL: Error = Error(22);
pub(crate) const EOPNOTSUPP: Error = Error(95);

impl From<std::num::TryFromIntError> for Error {
    fn from(_: std::num::TryFromIntError) -> Self {
        EINVAL
    }
}

/// `kernel::prelude`.
pub(crate) mod prelude {
    pub(crate) use super::{Result, EINVAL, EIO, ENODEV, ENOMEM, EOPNOTSUPP};
    pub(crate) use zerocopy::{FromBytes, IntoBytes};
}

/// Bindings of C, of which the copies use nothing.
pub(crate) mod bindings {}

/// The trait of `vfio/migration/save.rs`, a file that needs much of the kernel crate.
#[allow(dead_code)]
pub(crate) trait StreamCheck {
    fn push(&mut self, bytes: &[u8]);

    fn is_whole(&self) -> bool;

    fn is_hopeless(&self) -> bool;
}

macro_rules! static_assert {
    ($($condition:tt)*) => {
        const _: () = assert!($($condition)*);
    };
}
