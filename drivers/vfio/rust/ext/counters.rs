// SPDX-License-Identifier: GPL-2.0

//! Counters for debugfs.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A counter. The driver's decisions must not depend on it.
pub(crate) struct Counter(Atomic<i64>);

impl Counter {
    /// Creates a counter that is zero.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds one.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub(crate) fn add(&self, n: i64) {
        self.0.add(n, Relaxed);
    }

    /// Raises the counter to `n`. If two threads race, the smaller of their values may win.
    pub(crate) fn at_least(&self, n: i64) {
        if self.get() < n {
            self.0.store(n, Relaxed);
        }
    }

    /// Returns the count.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Declares a struct of [`Counter`]s, with `new()`, which creates counters that are all zero, and
/// `show()`, which writes one `name value` pair per line, in the order of the fields.
#[allow(unused_macros, reason = "not every driver has counters")]
macro_rules! counters {
    ($(#[$attribute:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident,)+ }) => {
        $(#[$attribute])*
        $vis struct $name {
            $($(#[$doc])* $vis $field: $crate::ext::counters::Counter,)+
        }

        impl $name {
            /// Creates counters that are all zero.
            $vis const fn new() -> Self {
                Self {
                    $($field: $crate::ext::counters::Counter::new(),)+
                }
            }

            /// Writes one `name value` pair per line.
            $vis fn show(&self, f: &mut ::kernel::fmt::Formatter<'_>) -> ::kernel::fmt::Result {
                $(writeln!(f, concat!(stringify!($field), " {}"), self.$field.get())?;)+
                Ok(())
            }
        }
    };
}
pub(crate) use counters;
