// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Examples in the documentation of the layer, which are excerpts of drivers that are built: a line
//! of an example that its source does not have is a finding.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where examples live.
const LAYER: &str = "drivers/vfio/rust/";

/// Stands in an example for lines that it leaves out.
const LEFT_OUT: &str = "// …";

/// `file:line: text` of each line of an example that its source does not have, and of each block of
/// code without a source. The text before a block names the source as ``From `path`:``.
pub(super) fn strangers(tree: &Path, files: &[PathBuf]) -> io::Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in files {
        let name = path
            .strip_prefix(tree)
            .unwrap_or(path)
            .display()
            .to_string();
        if !name.starts_with(LAYER) || !name.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(path)?;
        findings.extend(
            strange_lines(&text, |source| fs::read_to_string(tree.join(source)).ok())
                .into_iter()
                .map(|(line, what)| format!("{name}:{line}: {what}")),
        );
    }
    Ok(findings)
}

/// The number and the text of each line that `source_of` does not have.
fn strange_lines(text: &str, source_of: impl Fn(&str) -> Option<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // The paragraph before a block, and the lines of the source inside of one.
    let mut before = String::new();
    let mut block: Option<Vec<String>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        let Some(comment) = line.strip_prefix("///").or(line.strip_prefix("//!")) else {
            before.clear();
            block = None;
            continue;
        };
        let comment = comment.trim();
        match (&block, comment.strip_prefix("```")) {
            (Some(_), Some(_)) => {
                block = None;
                before.clear();
            }
            (None, Some("ignore")) => {
                let source = source_named(&before).and_then(&source_of);
                if source.is_none() {
                    found.push((number, "an example without its source".into()));
                }
                let source = source.unwrap_or_default();
                block = Some(source.lines().map(|l| l.trim().to_string()).collect());
            }
            (Some(lines), None) => {
                let free = comment.is_empty() || comment == LEFT_OUT || lines.is_empty();
                if !free && !lines.iter().any(|l| l == comment) {
                    found.push((number, comment.to_string()));
                }
            }
            (None, _) => {
                before.push_str(comment);
                before.push(' ');
            }
        }
    }
    found
}

/// The path in the last ``From `path`:`` of a text.
fn source_named(text: &str) -> Option<&str> {
    let (_, rest) = text.rsplit_once("From `")?;
    let (path, end) = rest.split_once('`')?;
    end.starts_with(':').then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f() {\n    g();\n}\n";

    fn check(text: &str) -> Vec<(usize, String)> {
        strange_lines(text, |path| (path == "a.rs").then(|| SOURCE.to_string()))
    }

    #[test]
    fn an_excerpt_has_the_lines_of_its_source() {
        let good = "/// From\n/// `a.rs`:\n///\n/// ```ignore\n/// fn f() {\n///     // …\n/// }\n/// ```\n";
        assert_eq!(check(good), []);
        let bad = good.replace("fn f()", "fn h()");
        assert_eq!(check(&bad), [(5, "fn h() {".to_string())]);
    }

    #[test]
    fn an_example_names_a_source_that_is_there() {
        for text in [
            "/// ```ignore\n/// f();\n/// ```\n",
            "/// From `b.rs`:\n/// ```ignore\n",
        ] {
            let found = check(text);
            assert_eq!(found.len(), 1);
            assert!(found[0].1.contains("without its source"));
        }
        // A drawing is no example.
        assert_eq!(check("//! ```text\n//! a ──▶ b\n//! ```\n"), []);
    }
}
