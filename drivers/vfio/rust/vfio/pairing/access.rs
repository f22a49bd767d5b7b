// SPDX-License-Identifier: GPL-2.0

//! Decisions about a pair, without side effects: why there is none, and when to search for a new
//! one.

use kernel::prelude::*;

/// Reason why a function has no pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// No management function that could be its own is bound.
    Unbound,
    /// One is bound, but has not been proved to be this function's, or another function has claimed
    /// its place there.
    Unproved,
    /// All that are bound belong to other devices, or do not have this function.
    NotOurs,
}

impl Missing {
    /// Returns the errno of probe. After `EPROBE_DEFER` the core probes again when another driver
    /// has bound.
    pub(super) fn at_probe(self) -> Error {
        match self {
            Self::Unbound | Self::Unproved => EPROBE_DEFER,
            Self::NotOurs => ENODEV,
        }
    }

    /// Returns the reason as text, for a message.
    pub(super) fn text(self) -> &'static CStr {
        match self {
            Self::Unbound => c"its management function is not bound",
            Self::Unproved => c"no management function has proved to be its own",
            Self::NotOurs => c"the management functions that were found are of other devices",
        }
    }
}

/// Action of a call that needs the management function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// It uses the pair.
    Use,
    /// It searches for a management function.
    Search,
    /// It fails.
    Fail(Error),
}

/// Decides what a call does. `gone` says whether the management function of the pair is gone, if
/// there is a pair. `closing` means that the last user closes the device, `failed` is the error of
/// a search of a short time ago, and `is_idle` returns whether no session and no log exists.
pub(super) fn access(
    gone: Option<bool>,
    closing: bool,
    failed: Option<Error>,
    is_idle: impl FnOnce() -> bool,
) -> Access {
    match (gone, failed) {
        (Some(false), _) => Access::Use,
        // A search would take longer than other tasks may wait for a close.
        _ if closing => Access::Fail(ENOTCONN),
        (_, Some(error)) => Access::Fail(error),
        _ if !is_idle() => Access::Fail(ENOTCONN),
        _ => Access::Search,
    }
}

#[kunit_tests(vfio_pairing)]
mod tests {
    use super::*;

    /// A failed search has left no pair that could be marked.
    #[test]
    fn v3_a_close_never_searches() {
        for (gone, closing, failed, idle, want) in [
            (Some(false), false, None, false, Access::Use),
            (Some(false), true, Some(ENODEV), false, Access::Use),
            (Some(true), false, None, true, Access::Search),
            (None, false, None, true, Access::Search),
            (Some(true), true, None, true, Access::Fail(ENOTCONN)),
            (None, true, None, true, Access::Fail(ENOTCONN)),
            (None, true, Some(ENODEV), true, Access::Fail(ENOTCONN)),
            (None, false, Some(ENODEV), true, Access::Fail(ENODEV)),
            (Some(true), false, None, false, Access::Fail(ENOTCONN)),
            (None, false, None, false, Access::Fail(ENOTCONN)),
        ] {
            assert_eq!(access(gone, closing, failed, || idle), want);
        }
    }

    #[test]
    fn what_may_come_is_waited_for() {
        assert_eq!(Missing::Unbound.at_probe(), EPROBE_DEFER);
        assert_eq!(Missing::Unproved.at_probe(), EPROBE_DEFER);
        assert_eq!(Missing::NotOurs.at_probe(), ENODEV);
    }
}
