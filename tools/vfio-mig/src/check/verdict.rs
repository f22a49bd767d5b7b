// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How a case ends, and the words to demand something with.

use std::{fmt::Display, io};

use rustix::io::Errno;

/// Why a case did not end well.
#[derive(Debug)]
pub enum Stop {
    /// The device does something else than the uAPI says: what was seen.
    Deviation(String),
    /// It cannot be seen on this device: why.
    Skip(String),
    /// It could not be carried out; says nothing of the device.
    Error(anyhow::Error),
}

/// How a case ends.
pub type Outcome<T = ()> = Result<T, Stop>;

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Stop {
    /// Says where it happened, in front.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Deviation(seen) => Self::Deviation(format!("{place}: {seen}")),
            Self::Skip(why) => Self::Skip(why),
            Self::Error(e) => Self::Error(e.context(place.to_owned())),
        }
    }
}

/// Ends the case: the device deviates. Takes what was seen, like `format!`.
macro_rules! deviation {
    ($($seen:tt)+) => {
        return Err($crate::check::verdict::Stop::Deviation(format!($($seen)+)))
    };
}

/// Ends the case as a deviation unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($seen:tt)+) => {
        if !$condition {
            $crate::check::verdict::deviation!($($seen)+);
        }
    };
}

/// Ends the case: not on this device.
macro_rules! skip {
    ($($why:tt)+) => {
        return Err($crate::check::verdict::Stop::Skip(format!($($why)+)))
    };
}

pub(crate) use {deviation, ensure, skip};

/// Name of an errno, as in the uAPI.
pub fn name(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno) => errno_name(errno),
        None => error.to_string(),
    }
}

/// Name of an errno, as in the uAPI.
pub fn errno_name(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// Demands that a call fails with one of `errnos`.
///
/// # Errors
///
/// It did not.
pub fn refused<T>(call: impl Display, result: io::Result<T>, errnos: &[Errno]) -> Outcome {
    let names: Vec<String> = errnos.iter().map(|e| errno_name(*e)).collect();
    let wanted = names.join(" or ");
    match result {
        Ok(_) => deviation!("{call} succeeded instead of {wanted}"),
        Err(e) if Errno::from_io_error(&e).is_some_and(|e| errnos.contains(&e)) => Ok(()),
        Err(e) => deviation!("{call} failed with {} instead of {wanted}", name(&e)),
    }
}

/// Demands that a call fails, with whatever errno.
///
/// # Errors
///
/// It did not.
pub fn fails<T>(call: impl Display, result: io::Result<T>) -> Outcome {
    match result {
        Ok(_) => deviation!("{call} succeeded"),
        Err(_) => Ok(()),
    }
}

/// Demands that a call succeeds.
///
/// # Errors
///
/// It did not.
pub fn accepted<T>(call: impl Display, result: io::Result<T>) -> Outcome<T> {
    match result {
        Ok(value) => Ok(value),
        Err(e) => deviation!("{call} failed with {}", name(&e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(outcome: Outcome) -> String {
        match outcome {
            Err(Stop::Deviation(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errnos_are_compared_and_named() {
        let inval = || Err::<(), _>(Errno::INVAL.into());
        assert!(refused("x", inval(), &[Errno::INVAL]).is_ok());
        assert_eq!(
            seen(refused("SET", inval(), &[Errno::NODEV, Errno::NOMSG])),
            "SET failed with EINVAL instead of ENODEV or ENOMSG"
        );
        assert_eq!(
            seen(refused("SET", Ok(()), &[Errno::INVAL])),
            "SET succeeded instead of EINVAL"
        );
        assert_eq!(seen(fails("SET", Ok(()))), "SET succeeded");
        assert_eq!(
            seen(accepted("GET", inval()).map(drop)),
            "GET failed with EINVAL"
        );
    }
}
