// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Tests that the documents name: a name that is no test's any more is a finding.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Names that may stand for tests have at least so many underscores; what has fewer may be anything.
const UNDERSCORES: usize = 3;

/// `file:line: name` of each that is not there. A document abbreviates a name by `…`. It writes
/// functions that are no tests with their `()`.
pub(super) fn missing(tree: &Path, files: &[PathBuf]) -> io::Result<Vec<String>> {
    let with = |extensions: &'static [&'static str]| {
        files.iter().filter(move |path| {
            let extension = path.extension().and_then(|e| e.to_str());
            extension.is_some_and(|e| extensions.contains(&e))
        })
    };
    let mut known = BTreeSet::new();
    for path in with(&["rs"]) {
        known.extend(functions(&fs::read_to_string(path)?));
    }
    let mut findings = Vec::new();
    for path in with(&["rst", "md"]) {
        let text = fs::read_to_string(path)?;
        let name = path.strip_prefix(tree).unwrap_or(path).display();
        for (line, quoted) in quoted(&text) {
            if !known.iter().any(|test| stands_for(quoted, test)) {
                findings.push(format!("{name}:{line}: {quoted}"));
            }
        }
    }
    Ok(findings)
}

fn is_name(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Names of functions and short strings: tests of shared boxes are named by strings.
fn functions(text: &str) -> impl Iterator<Item = String> + '_ {
    let after_fn = text.split("fn ").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        &rest[..end.unwrap_or(rest.len())]
    });
    let strings = text.split('"').filter(|s| s.len() < 100);
    after_fn
        .chain(strings)
        .filter(|word| is_name(word))
        .map(str::to_owned)
}

/// Words between back quotes that can only be names of tests, with their lines.
fn quoted(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // What stands between two words in quotes has spaces and is no name.
    let words = text
        .lines()
        .zip(1..)
        .flat_map(|(line, n)| line.split('`').map(move |word| (n, word)));
    words
        .map(|(n, word)| (n, word.rsplit("::").next().unwrap_or(word)))
        .filter(|(_, word)| {
            let long = word.contains('…') || word.matches('_').count() >= UNDERSCORES;
            long && is_name(&word.replacen('…', "", 1)) && !word.starts_with("__")
        })
}

/// `quoted` is the name of `test`, or short for it.
fn stands_for(quoted: &str, test: &str) -> bool {
    match quoted.split_once('…') {
        Some((start, end)) => test.starts_with(start) && test.ends_with(end),
        None => quoted == test,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
``tool::a_test_that_is_there`` and `s01_one_that_is_a_string`,
``a_test_that_…``, ``…_is_there``; ``a_test_that_is_gone`` and ``a_test_of_old_…``
``log_ring_order``, ``pci_reset_function_locked()``, ``__run_hr_timer``";
    const SOURCE: &str =
        r#"fn a_test_that_is_there() {} group.scenario("s01_one_that_is_a_string", f)"#;

    #[test]
    fn names_of_tests_that_are_gone_are_found() {
        let tree = tempfile::tempdir().unwrap();
        let paths = ["x.rst", "x.rs"].map(|name| tree.path().join(name));
        fs::write(&paths[0], DOCUMENT).unwrap();
        fs::write(&paths[1], SOURCE).unwrap();
        assert_eq!(
            missing(tree.path(), &paths).unwrap(),
            ["x.rst:2: a_test_that_is_gone", "x.rst:2: a_test_of_old_…"]
        );
    }
}
