// SPDX-License-Identifier: GPL-2.0

//! Decisions about the proof that a data function belongs to a management function. Without side
//! effects.

use super::identity::Look;
use kernel::prelude::*;

/// Result of ATTEST with one management function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The data function shows the nonce.
    Same,
    /// The data function may not show its nonce yet: it reads as all ones or zero, or as before.
    NotYet,
    /// The data function shows another nonce: it belongs to another NIC.
    Other,
}

/// Evaluates what the data function shows now. `before` was read before the management function got
/// `nonce`.
pub(super) fn judge(before: Look, nonce: u64, now: Look) -> Verdict {
    match now {
        // `can_be_nonce` makes sure that `nonce` differs from the value before.
        Look::Shows(value) if value == nonce => Verdict::Same,
        // An FLR clears the nonce.
        Look::Shows(0) | Look::Unreadable => Verdict::NotYet,
        now if now == before => Verdict::NotYet,
        Look::Shows(_) => Verdict::Other,
    }
}

/// Returns whether `value` can be a nonce. It must differ from the current value, from 0 ("no
/// nonce"), and in both words from all ones, as which an absent function reads.
pub(super) fn can_be_nonce(value: u64, before: Look) -> bool {
    let words = [value as u32, (value >> 32) as u32];
    value != 0 && !words.contains(&u32::MAX) && before != Look::Shows(value)
}

/// Reason why a data function has no pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// No management function with the serial is bound.
    Unbound,
    /// A management function with the serial is bound, but has not been proved to be this
    /// function's, or the function of this number is claimed.
    Unproved,
    /// The function shows the nonce of another NIC, or the NIC has no function of this number.
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

    pub(super) fn text(self) -> &'static CStr {
        match self {
            Self::Unbound => c"its management function is not bound",
            Self::Unproved => c"no management function with its serial has proved to be its own",
            Self::NotOurs => c"the management functions of its serial are of other NICs",
        }
    }
}

/// The PF of a data function, as far as it matters for pairing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pf {
    /// The function is no VF.
    None,
    /// The PF carries no DVSEC of the contract with the role "management function".
    Other,
    /// The PF is a management function. `asked` is set if it is the one in question.
    Management { asked: bool },
}

/// Returns whether a management function can own a data function with this PF. A VF whose PF is a
/// management function belongs to its PF only ("Pairing" in `dlr-contract.rst`).
pub(super) fn may_own(pf: Pf) -> bool {
    match pf {
        Pf::None | Pf::Other => true,
        Pf::Management { asked } => asked,
    }
}

/// What a call does that needs the management function.
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

#[kunit_tests(dlr_vf_pairing)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x1122_3344_5566_7788;

    #[test]
    fn only_the_nonce_proves() {
        let befores = [
            Look::Unreadable,
            Look::Shows(0),
            Look::Shows(5),
            Look::Shows(NONCE ^ 1),
        ];
        for before in befores {
            assert_eq!(judge(before, NONCE, Look::Shows(NONCE)), Verdict::Same);
            assert_eq!(judge(before, NONCE, Look::Unreadable), Verdict::NotYet);
            assert_eq!(judge(before, NONCE, Look::Shows(0)), Verdict::NotYet);
            assert_eq!(judge(before, NONCE, before), Verdict::NotYet);
            assert_eq!(judge(before, NONCE, Look::Shows(9)), Verdict::Other);
            // One word of the nonce is no proof.
            let half = Look::Shows(NONCE & 0xffff_ffff);
            assert_eq!(judge(before, NONCE, half), Verdict::Other);
        }
    }

    #[test]
    fn a_nonce_differs_from_what_says_nothing() {
        let before = Look::Shows(NONCE);
        assert!(!can_be_nonce(0, before));
        assert!(!can_be_nonce(u64::MAX, before));
        assert!(!can_be_nonce(NONCE, before));
        assert!(!can_be_nonce(0x1234_5678_ffff_ffff, before));
        assert!(!can_be_nonce(0xffff_ffff_1234_5678, before));
        assert!(can_be_nonce(NONCE ^ 1, before));
    }

    #[test]
    fn h1_a_vf_of_a_management_function_belongs_to_that_one() {
        for (pf, wanted) in [
            (Pf::None, true),
            (Pf::Other, true),
            (Pf::Management { asked: true }, true),
            (Pf::Management { asked: false }, false),
        ] {
            assert_eq!(may_own(pf), wanted);
        }
    }

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
