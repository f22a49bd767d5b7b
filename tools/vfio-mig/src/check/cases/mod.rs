// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The cases, a module per group. Each module has `cases()`.

mod compatible;
mod concurrency;
mod data;
mod dead;
mod feature;
mod feature_calls;
mod file;
mod log;
mod log_arguments;
mod log_outside;
mod pair;
mod precopy;
mod reset;
mod resume;
mod states;
mod walk;

use super::Case;

/// All cases, in the order in which they run: what everything else rests upon first.
pub fn all() -> Vec<Case> {
    let groups = [
        feature::cases(),
        feature_calls::cases(),
        states::cases(),
        data::cases(),
        dead::cases(),
        precopy::cases(),
        resume::cases(),
        log_arguments::cases(),
        log::cases(),
        log_outside::cases(),
        reset::cases(),
        file::cases(),
        walk::cases(),
        concurrency::cases(),
        compatible::cases(),
        pair::cases(),
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_are_unique_words() {
        let mut seen = HashSet::new();
        for case in all() {
            assert!(case.id.contains('.'), "{}: no contract item", case.id);
            let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
            assert!(case.id.bytes().all(ok), "{}: odd letters", case.id);
            assert!(!case.rationale.is_empty(), "{}: no rationale", case.id);
            assert!(seen.insert(case.id.clone()), "{} is there twice", case.id);
        }
    }
}
