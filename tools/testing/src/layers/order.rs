// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The tables of files at the head of modules: each file of the module has a row, each row has a file,
//! and where the text says `No file imports one`, no file takes names from a file of a later row.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{imports::Crate, loops::roots};

/// The first words of such a table.
const HEAD: &str = "//! | file |";

/// The words that promise an order.
const PROMISE: &str = "No file imports one";

/// What the tables of all crates whose root files are among `files` say wrongly: one line each,
/// relative to `tree`.
pub(super) fn wrong(tree: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let tree = tree.canonicalize()?;
    let mut lines = Vec::new();
    for root in roots(files) {
        let read = Crate::read(root)?;
        let arrows = read.arrows();
        for (module, file) in read.files() {
            let text = std::fs::read_to_string(file)?;
            let Some(table) = Table::read(&text) else {
                continue;
            };
            // A module with `#[path]` is named with a detour.
            let plain = file.canonicalize()?;
            let name = plain.strip_prefix(&tree).unwrap_or(&plain).display();
            let row = |file: &Path| {
                let (path, _) = read.files().find(|(_, other)| *other == file)?;
                table.row(path.strip_prefix(module.as_slice())?)
            };
            for inner in read
                .files()
                .filter_map(|(path, _)| path.strip_prefix(module.as_slice()))
            {
                if inner.len() == 1 && !table.mentions(&inner[0]) {
                    lines.push(format!("{name}: the table lacks `{}`", inner[0]));
                }
            }
            for entry in table.rows.iter().flatten() {
                if !exists(file, &entry.join("/")) {
                    lines.push(format!("{name}: there is no `{}`", entry.join("/")));
                }
            }
            for (from, to) in arrows.iter().filter(|_| table.ordered) {
                for to in to {
                    if row(from).zip(row(to)).is_some_and(|(from, to)| to > from) {
                        let (from, to) = (shown(from, file), shown(to, file));
                        lines.push(format!("{name}: {from} imports {to}, of a later row"));
                    }
                }
            }
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Whether the module of `file` has a submodule of this name, which may be one for tests.
fn exists(file: &Path, name: &str) -> bool {
    let is_root = |stem: &std::ffi::OsStr| ["mod", "lib", "main"].iter().any(|n| stem == *n);
    let folder = match file.file_stem().is_some_and(is_root) {
        true => file.parent().unwrap_or(file).to_path_buf(),
        false => file.with_extension(""),
    };
    folder.join(format!("{name}.rs")).is_file() || folder.join(name).join("mod.rs").is_file()
}

/// A file, as seen from the folder of another one.
fn shown(file: &Path, other: &Path) -> String {
    let folder = other.parent().unwrap_or(other);
    file.strip_prefix(folder)
        .unwrap_or(file)
        .display()
        .to_string()
}

/// A table of files: the modules of each row, and whether their order means something.
struct Table {
    rows: Vec<Vec<Vec<String>>>,
    ordered: bool,
}

impl Table {
    /// The table of files of a module that has one. Those with names of files in other folders are
    /// something else.
    fn read(text: &str) -> Option<Self> {
        let (before, table) = text.split_once(HEAD)?;
        let rows: Vec<_> = table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("//! |"))
            .map(|line| names(line.split('|').next().unwrap_or_default()))
            .collect();
        let elsewhere = |name: &Vec<String>| name.iter().any(|part| part.contains('.'));
        if rows.iter().flatten().any(elsewhere) {
            return None;
        }
        // A section of the comment, and no other one, speaks about its table.
        let section = before.rsplit("//! #").next().unwrap_or_default();
        Some(Self {
            rows,
            ordered: section.contains(PROMISE),
        })
    }

    /// Number of the row with the longest name that a module begins with.
    fn row(&self, module: &[String]) -> Option<usize> {
        let named = |(number, row): (usize, &Vec<Vec<String>>)| {
            let fits = row.iter().filter(|name| module.starts_with(name));
            fits.map(|name| (name.len(), number)).max()
        };
        let best = self.rows.iter().enumerate().filter_map(named).max()?;
        Some(best.1)
    }

    fn mentions(&self, module: &str) -> bool {
        self.rows
            .iter()
            .flatten()
            .any(|name| name.first().is_some_and(|first| first == module))
    }
}

/// Modules in the first column of a row.
fn names(cell: &str) -> Vec<Vec<String>> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(|name| name.split('/').map(str::to_owned).collect())
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// What is wrong with a crate of three modules whose table is this.
    fn found(head: &str, rows: &[&str]) -> Vec<String> {
        let tree = tempfile::tempdir().unwrap();
        let rows: String = rows.iter().map(|r| format!("//! | {r} | x |\n")).collect();
        let table =
            format!("//! {head}\n//!\n//! | file | contents |\n//! | --- | --- |\n{rows}\n");
        let root = tree.path().join("src/lib.rs");
        fs::create_dir_all(tree.path().join("src/b")).unwrap();
        fs::write(&root, format!("{table}mod a; mod b; mod c;")).unwrap();
        for (name, text) in [
            ("a.rs", "pub struct A;"),
            ("b.rs", "mod x; use crate::a::A; pub struct B;"),
            ("c.rs", "use crate::b::B;"),
        ] {
            fs::write(tree.path().join("src").join(name), text).unwrap();
        }
        fs::write(tree.path().join("src/b/x.rs"), "use crate::a::A;").unwrap();
        wrong(tree.path(), &[root]).unwrap()
    }

    const ORDERED: &str = "No file imports one of a later row.";

    #[test]
    fn a_table_that_is_right() {
        assert_eq!(found(ORDERED, &["`a`", "`b`", "`c`"]), [""; 0]);
        assert_eq!(found(ORDERED, &["`a`, `b`, `c`"]), [""; 0]);
        assert_eq!(found(ORDERED, &["`a`", "`b/x`", "`b`", "`c`"]), [""; 0]);
    }

    #[test]
    fn rows_and_files_belong_together() {
        assert_eq!(
            found(ORDERED, &["`a`", "`b`", "`d`"]),
            [
                "src/lib.rs: the table lacks `c`",
                "src/lib.rs: there is no `d`"
            ]
        );
    }

    #[test]
    fn the_order_counts_where_it_is_promised() {
        let rows = ["`b/x`", "`c`", "`a`", "`b`"];
        assert_eq!(
            found(ORDERED, &rows),
            [
                "src/lib.rs: b/x.rs imports a.rs, of a later row",
                "src/lib.rs: c.rs imports b.rs, of a later row"
            ]
        );
        assert_eq!(found("In the order of the alphabet.", &rows), [""; 0]);
    }

    #[test]
    fn other_tables() {
        assert!(
            Table::read("//! | file | x |\n//! | --- | --- |\n//! | `a/b.rs` | x |\n").is_none()
        );
        assert!(Table::read("//! | row | x |\n").is_none());
    }
}
