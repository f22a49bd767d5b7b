// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::error`.

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Error(i32);

pub(crate) type Result<T = (), E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn to_errno(self) -> i32 {
        -self.0
    }
}

macro_rules! errors {
    ($($name:ident = $number:literal;)*) => {
        $(pub(crate) const $name: Error = Error($number);)*
    };
}
errors! {
    EINTR = 4;
    EIO = 5;
    ENOMEM = 12;
    EBUSY = 16;
    EINVAL = 22;
    ENOSPC = 28;
    EOVERFLOW = 75;
    EOPNOTSUPP = 95;
    ENOTCONN = 107;
}

pub(crate) fn to_result(errno: i32) -> Result {
    match errno {
        0 => Ok(()),
        errno => Err(Error(-errno)),
    }
}
