// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Copies files of the driver for tests in user space: for build scripts, and for the tests what
//! switches the bugs of a copy.

pub mod bugs;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};

pub use bugs::Bug;

/// Files by their path in the copy.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Takes in the code of a file, or of all files of a folder but its `tests`. cargo runs the
    /// build script again when they change.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub fn read(&mut self, from: &Path, to: &Path) -> Result<()> {
        println!("cargo::rerun-if-changed={}", from.display());
        if from.is_dir() {
            for entry in fs::read_dir(from)? {
                let name = entry?.file_name();
                if name != "tests" {
                    self.read(&from.join(&name), &to.join(&name))?;
                }
            }
            return Ok(());
        }
        let text = fs::read_to_string(from).with_context(|| format!("{}", from.display()))?;
        self.0.insert(to.to_owned(), code(&text));
        Ok(())
    }

    /// Replaces a text that occurs once in a file.
    ///
    /// # Errors
    ///
    /// There is no such file, or the text does not occur once.
    pub fn replace(&mut self, path: &str, old: &str, new: &str) -> Result<()> {
        let text = self.file(path)?;
        let count = text.matches(old).count();
        ensure!(count == 1, "{path}: {old:?} occurs {count} times");
        *text = text.replace(old, new);
        Ok(())
    }

    /// Replaces a text wherever it occurs in the files of a folder.
    ///
    /// # Errors
    ///
    /// It does not occur.
    pub fn replace_all(&mut self, folder: &str, old: &str, new: &str) -> Result<()> {
        let files = self
            .0
            .iter_mut()
            .filter(|(path, _)| path.starts_with(folder));
        let mut count = 0;
        for (_, text) in files {
            count += text.matches(old).count();
            *text = text.replace(old, new);
        }
        ensure!(count > 0, "{folder}: {old:?} does not occur");
        Ok(())
    }

    /// Removes what stands in a file from `from` to before `to`, or to the end.
    ///
    /// # Errors
    ///
    /// There is no such file, or the texts do not occur in this order.
    pub fn cut(&mut self, path: &str, from: &str, to: Option<&str>) -> Result<()> {
        let text = self.file(path)?;
        let start = text
            .find(from)
            .with_context(|| format!("{path}: no {from:?}"))?;
        let end = match to {
            Some(to) => text
                .find(to)
                .with_context(|| format!("{path}: no {to:?}"))?,
            None => text.len(),
        };
        ensure!(start < end, "{path}: {from:?} stands behind {to:?}");
        text.replace_range(start..end, "");
        Ok(())
    }

    /// Puts a switch, `crate::bugs::is("…")`, at the place of each bug.
    ///
    /// # Errors
    ///
    /// A place does not occur once.
    pub fn add_bugs(&mut self, bugs: &[Bug]) -> Result<()> {
        for bug in bugs {
            let switch = format!("crate::bugs::is({:?})", bug.name);
            self.replace(bug.path, bug.find, &bug.with.replace("BUG", &switch))
                .with_context(|| format!("the place of the bug {}", bug.name))?;
        }
        Ok(())
    }

    /// Writes the files below `folder`.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        for (path, text) in &self.0 {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    fn file(&mut self, path: &str) -> Result<&mut String> {
        self.0
            .get_mut(Path::new(path))
            .with_context(|| format!("there is no {path}"))
    }
}

/// The code of a file, up to its tests. Its inner documentation goes, because `include!` has no
/// place for it, and so does what only means something to pinned values: here a value is made and
/// then moved.
pub fn code(text: &str) -> String {
    let text = text.replace("#[cfg(test)]\nmod tests;\n", "");
    let code = text.split("#[kunit_tests").next().unwrap_or_default();
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    let code: Vec<&str> = code
        .lines()
        .filter(|line| !line.starts_with("//!") && !line.starts_with("#!["))
        .filter(|line| !matches!(line.trim(), "#[pin_data]" | "#[pin]"))
        .collect();
    code.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        Tree([("a/x.rs".into(), "one two three two".into())].into())
    }

    fn text(tree: &Tree) -> &str {
        &tree.0[Path::new("a/x.rs")]
    }

    #[test]
    fn a_text_that_does_not_occur_once_is_an_error() {
        let mut tree = tree();
        assert!(tree.replace("a/x.rs", "two", "2").is_err());
        assert!(tree.replace("a/x.rs", "four", "4").is_err());
        assert!(tree.replace("a/y.rs", "one", "1").is_err());
        tree.replace("a/x.rs", "three", "3").unwrap();
        tree.replace_all("a", "two", "2").unwrap();
        assert!(tree.replace_all("b", "one", "1").is_err());
        assert_eq!(text(&tree), "one 2 3 2");
    }

    #[test]
    fn a_cut_ends_before_a_text_that_follows() {
        let mut tree = tree();
        assert!(tree.cut("a/x.rs", "three", Some("one")).is_err());
        tree.cut("a/x.rs", " two", Some(" three")).unwrap();
        assert_eq!(text(&tree), "one three two");
        tree.cut("a/x.rs", " three", None).unwrap();
        assert_eq!(text(&tree), "one");
    }

    #[test]
    fn a_bug_is_a_switch() {
        let bug = Bug {
            name: "it is \"one\"",
            path: "a/x.rs",
            find: "one",
            with: "(one || BUG)",
        };
        let mut tree = tree();
        tree.add_bugs(&[bug]).unwrap();
        let want = r#"(one || crate::bugs::is("it is \"one\"")) two three two"#;
        assert_eq!(text(&tree), want);
    }

    #[test]
    fn only_code_is_copied() {
        let text = "//! Docs.\n#![allow(x)]\n#[pin_data]\nstruct A {\n    #[pin]\n    a: u8,\n}\n\
                    #[kunit_tests(a)]\nmod tests {}\n";
        assert_eq!(code(text), "struct A {\n    a: u8,\n}");
    }
}
