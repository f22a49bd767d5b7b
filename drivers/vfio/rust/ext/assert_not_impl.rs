// SPDX-License-Identifier: GPL-2.0

//! Build-time assertions about traits.
//!
//! This file needs nothing but `core`: `tools/testing/src/claims.rs` compiles it for user space and
//! shows that it accepts and refuses what it should.

/// Fails the build if a type implements a trait.
///
/// If it does, `item` has two candidates and type inference fails.
macro_rules! assert_not_impl {
    ($type:ty: $($bound:tt)+) => {
        const _: fn() = || {
            trait Candidate<A> {
                fn item() {}
            }
            struct Other;
            impl<T: ?Sized> Candidate<()> for T {}
            impl<T: ?Sized + $($bound)+> Candidate<Other> for T {}
            let _ = <$type as Candidate<_>>::item;
        };
    };
}
pub(crate) use assert_not_impl;
