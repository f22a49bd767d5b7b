// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each bug is found.

#![cfg(test)]
// The driver's files name the kernel crate, and are linted where they belong.
extern crate self as kernel;

/// Takes in a file of the copy that has the switches of the bugs.
macro_rules! copied {
    ($file:literal) => {
        include!(concat!(env!("OUT_DIR"), "/bugs/", $file));
    };
}

include!("../src/tree.rs");

#[path = "../src/bug_checks.rs"]
mod bug_checks;
