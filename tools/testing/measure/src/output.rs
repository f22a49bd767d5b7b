// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is printed.

/// One pass of a figure.
pub(crate) fn sample(name: &str, ours: u128, base: u128, count: u64) {
    println!("sample {name} {ours} {base} {count}");
}

/// One pass of a part of a figure: nanoseconds that the part took of those of the whole.
pub(crate) fn part(name: &str, part: u128, whole: u128, count: u64) {
    println!("part {name} {part} {whole} {count}");
}
