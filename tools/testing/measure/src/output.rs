// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is printed.

/// One pass of a figure.
pub(crate) fn sample(name: &str, ours: u128, base: u128, count: u64) {
    println!("sample {name} {ours} {base} {count}");
}
