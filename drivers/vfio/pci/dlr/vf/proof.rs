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

#[kunit_tests(dlr_vf_proof)]
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
}
