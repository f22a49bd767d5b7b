// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Where kernel code may assert: behind the first test of a module of KUnit. `#[kunit_tests]` defines
//! `assert!` and `assert_eq!` before each test of its module, so that a failed one fails the test
//! (`rust/macros/kunit.rs`). What stands before the first test, or elsewhere, has those of the core
//! library, and a failed one panics the kernel. `assert_ne!` and `debug_assert!` always are of the
//! core library.

/// The lines, from 1 on, with an assertion that would panic the kernel. An item
/// `const …: () = assert!(…);` fails the build and is no such line.
pub(super) fn panics(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Depth of the braces around the module, while the line is in one.
    let mut module = None;
    let mut is_next = false;
    let mut seen_test = false;
    for (number, line) in (1..).zip(text.lines()) {
        let code = code(line);
        let words = code.trim_start();
        is_next |= words.starts_with("#[kunit_tests");
        if is_next && module.is_none() && has_word(words, "mod") {
            module = Some(depth);
            is_next = false;
            seen_test = false;
        }
        seen_test |= words.starts_with("#[test]");
        let is_kunit = module.is_some() && seen_test;
        let of_core = has_any(words, &ALWAYS_OF_CORE);
        let either = has_any(words, &OF_KUNIT) && !is_kunit;
        if (of_core || either) && !is_const_item(words) {
            found.push(number);
        }
        let of = |brace| code.chars().filter(|c| *c == brace).count();
        depth = (depth + of('{')).saturating_sub(of('}'));
        if module.is_some_and(|outer| depth <= outer) {
            module = None;
        }
    }
    found
}

/// Macros that `#[kunit_tests]` defines.
const OF_KUNIT: [&str; 2] = ["assert!", "assert_eq!"];

/// Macros that it does not define.
const ALWAYS_OF_CORE: [&str; 4] = [
    "assert_ne!",
    "debug_assert!",
    "debug_assert_eq!",
    "debug_assert_ne!",
];

/// The line without strings and comment. Strings and comments of several lines are not known, nor are
/// braces as characters.
fn code(line: &str) -> String {
    let line = line.replace("\\\"", "").replace("'\"'", "");
    let outside: String = line.split('"').step_by(2).collect();
    outside.split("//").next().unwrap_or_default().to_owned()
}

fn has_any(code: &str, names: &[&str]) -> bool {
    names.iter().any(|name| has_word(code, name))
}

/// Whether the line is `const NAME: () = assert!(…);`, public or not.
fn is_const_item(code: &str) -> bool {
    let (before, _) = code.split_once("assert").unwrap_or_default();
    (before.starts_with("const ") || before.starts_with("pub")) && before.ends_with(": () = ")
}

/// Whether `word` stands in `code` and is not the end of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(is_part) && (word.ends_with('!') || !after.starts_with(is_part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_of_tests_do_not_assert() {
        let text = "\
fn helper() {
    assert_eq!(1, 1);
}
const _: () = assert!(true);
static_assert!(true);

#[kunit_tests(suite)]
mod tests {
    fn early() {
        assert!(true);
    }

    #[test]
    fn case() {
        assert!(true, \"}\"); // assert!
        assert_ne!(1, 2);
    }

    fn late() {
        assert!(true);
    }
}

fn after() {
    debug_assert!(true);
    assert!(p as *const u8 == q);
}
pub(crate) const SIZE: () = assert!(size_of::<u8>() == 1);
const fn f() { assert!(true) }
";
        assert_eq!(panics(text), [2, 10, 16, 25, 26, 29]);
    }
}
