// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Where kernel code may assert: in the modules of KUnit. `#[kunit_tests]` gives `assert!` and
//! `assert_eq!` of the functions in its module another meaning, a failed test; everywhere else a
//! failed one panics the kernel.

/// The lines, from 1 on, that assert outside of such a module. An item `const … = assert!(…)` fails
/// the build and is no such line.
pub(super) fn outside_of_kunit(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Depth of the braces around the module, while the line is in one.
    let mut module = None;
    let mut is_next = false;
    for (number, line) in (1..).zip(text.lines()) {
        let code = code(line);
        let words = code.trim_start();
        is_next |= words.starts_with("#[kunit_tests");
        if is_next && module.is_none() && has_word(words, "mod") {
            module = Some(depth);
            is_next = false;
        }
        let is_const = has_word(words, "const");
        if module.is_none() && !is_const && asserts(words) {
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

/// The line without strings and comment.
fn code(line: &str) -> String {
    let line = line.replace("\\\"", "").replace("'\"'", "");
    let outside: String = line.split('"').step_by(2).collect();
    outside.split("//").next().unwrap_or_default().to_owned()
}

fn asserts(code: &str) -> bool {
    ["assert!", "assert_eq!", "assert_ne!"]
        .iter()
        .any(|name| has_word(code, name) || has_word(code, &format!("debug_{name}")))
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
    #[test]
    fn case() {
        assert!(true, \"}\"); // assert!
    }
}

fn after() {
    debug_assert!(true);
}
";
        assert_eq!(outside_of_kunit(text), [2, 16]);
    }
}
