// SPDX-License-Identifier: Apache-2.0 OR MIT

//! House rules that a look at the sources can check.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Where sources live.
const PLACES: &[&str] = &[
    "drivers",
    "include",
    "samples",
    "tools",
    "Documentation",
    ".ci",
];

/// Strings that a fuzzer has found: bytes, some of which happen to be text.
const CORPUS: &str = "samples/dlr-nic/fuzz/corpus/";

/// Files without an SPDX line of their own: lists and generated text, and what
/// git puts into a linked work tree.
const NO_LICENCE_LINE: &[&str] = &[
    "Cargo.lock",
    ".gitignore",
    ".git",
    "lspci.txt",
    "check-bochs.txt",
    "check-edu.txt",
];

/// Where `unsafe` may stand: the kernel's safe layer, and the one module with the
/// ioctls that no crate offers in a safe form.
const MAY_BE_UNSAFE: &[&str] = &["drivers/vfio/rust/", "tools/vfio-mig/src/sys/"];

/// Code of the kernel, which has its rules.
const KERNEL: &[&str] = &["drivers/", "samples/vfio/"];

/// Columns of a comment there (`checkpatch.pl --strict`). rustfmt leaves comments as they are.
const COLUMNS: usize = 100;

/// Lines of a file there.
const LINES: usize = 350;

/// A rule and the places that break it.
type Finding = (&'static str, Vec<String>);

/// Checks all rules.
pub(super) fn check(tree: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    for place in PLACES {
        walk(&tree.join(place), &mut files).with_context(|| (*place).to_string())?;
    }
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let loops = super::loops::loops(tree, &files)?;
    let tables = super::order::wrong(tree, &files)?;
    let missing = super::names::missing(tree, &files)?;
    let strangers = super::examples::strangers(tree, &files)?;
    let (mut licence, mut unsafe_code, mut unfinished) = (vec![], vec![], vec![]);
    let (mut wide, mut long, mut asserting) = (vec![], vec![], vec![]);
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let name = path
            .strip_prefix(tree)
            .unwrap_or(&path)
            .display()
            .to_string();
        if lacks_licence(&name, &text) {
            licence.push(name.clone());
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let may_be_unsafe = MAY_BE_UNSAFE.iter().any(|place| name.starts_with(place));
        let is_kernel = KERNEL.iter().any(|place| name.starts_with(place));
        if is_kernel && text.lines().count() > LINES {
            long.push(name.clone());
        }
        if is_kernel {
            let lines = super::asserts::panics(&text);
            asserting.extend(lines.iter().map(|number| format!("{name}:{number}")));
        }
        for (number, line) in text.lines().enumerate() {
            if is_kernel && is_wide_comment(line) {
                wide.push(format!("{name}:{}", number + 1));
            }
            let code = line.split("//").next().unwrap_or_default();
            if !may_be_unsafe && says_unsafe(code) {
                unsafe_code.push(format!("{name}:{}", number + 1));
            }
            if says_unfinished(line) {
                unfinished.push(format!("{name}:{}", number + 1));
            }
        }
    }
    Ok(vec![
        ("every file has an SPDX line", licence),
        ("`unsafe` stands only where it may", unsafe_code),
        ("nothing is marked as unfinished", unfinished),
        ("comments of kernel code have 100 columns at most", wide),
        ("files of kernel code have 350 lines at most", long),
        (
            "kernel code asserts only where a failure is that of a KUnit test",
            asserting,
        ),
        ("no files take names from each other", loops),
        ("tables of files name all files, in their order", tables),
        ("tests that documents name are there", missing),
        ("examples are excerpts of what is built", strangers),
    ])
}

fn walk(place: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !place.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn lacks_licence(name: &str, text: &str) -> bool {
    let exempt = NO_LICENCE_LINE.iter().any(|n| name.ends_with(n))
        || name.starts_with(CORPUS)
        || text.trim().is_empty();
    !exempt
        && !text
            .lines()
            .take(3)
            .any(|l| l.contains("SPDX-License-Identifier:"))
}

fn is_wide_comment(line: &str) -> bool {
    line.trim_start().starts_with("//") && line.chars().count() > COLUMNS
}

/// The keyword as a word of its own, outside of strings.
fn says_unsafe(code: &str) -> bool {
    let code = code.replace("\\\"", "");
    let outside: String = code.split('"').step_by(2).collect();
    outside
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == "unsafe")
}

fn says_unfinished(line: &str) -> bool {
    // Put together here so that this file does not find itself.
    [["to", "do!("], ["unimpl", "emented!("], ["FIX", "ME"]]
        .iter()
        .any(|mark| line.contains(&mark.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_are_too_wide() {
        let wide = "x".repeat(COLUMNS);
        assert!(is_wide_comment(&format!("    // {wide}")));
        assert!(!is_wide_comment(&format!("    \"{wide}\"")));
        // Columns, not bytes.
        let drawn = "─".repeat(COLUMNS - 3);
        assert!(!is_wide_comment(&format!("// {drawn}")));
    }

    #[test]
    fn the_keyword_is_told_from_what_contains_it() {
        assert!(says_unsafe("let x = unsafe { f() };"));
        assert!(!says_unsafe("#![forbid(unsafe_code)]"));
        assert!(!says_unsafe("print(\"no unsafe here\")"));
    }

    #[test]
    fn a_licence_line_may_follow_a_shebang() {
        assert!(!lacks_licence(
            "x",
            "#!/bin/sh\n# SPDX-License-Identifier: MIT\n"
        ));
        assert!(lacks_licence("x", "#!/bin/sh\n"));
        assert!(!lacks_licence("Cargo.lock", "x"));
    }
}
