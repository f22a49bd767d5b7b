// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Documentation/faults.rst: made from what was observed, compared with what is in the tree.

use std::{fmt::Write, fs, path::PathBuf};

use anyhow::{bail, Context, Result};

use crate::cases::{Row, Special, KINDS, ROWS, SPECIALS};

/// Set to rewrite the file in the tree.
const REWRITE: &str = "DLR_REWRITE_FAULTS";

/// The heading of the specials.
const GARBAGE: &str = "Garbage and half truths";

/// What was seen; empty where a fault does not apply.
#[derive(Default)]
pub(crate) struct Observed {
    /// By row, then by kind.
    pub(crate) matrix: Vec<Vec<String>>,
    /// By special.
    pub(crate) specials: Vec<String>,
}

const HEAD: &str = "\
.. SPDX-License-Identifier: GPL-2.0

.. Written by tools/testing/tests/faults: DLR_REWRITE_FAULTS=1 make test-one NAME=every_fault

=================
Faults from below
=================

What a user of a data function sees when the NIC does not answer its driver as it should. The
reference NIC was told to do so, once for each cell, and ``make test`` does it again and
compares: this page is what was observed.

After each of these the test looks first that the function can be brought to RUNNING and that a save
session can be begun, read from and ended without a reset: a guest goes on, and must be able to migrate
later. That leaves out ERROR and RESUMING, which a reset alone leads out of. Then it looks that
VFIO_DEVICE_RESET brings RUNNING back, that the data files are dead, that neither driver nor NIC has a
session, log, DMA buffer or command left over, and that a save session works as before. After \"dead queue\" the
test resets the management function, which the driver would do by itself after a while; until then what
needs it is ETIMEDOUT or EIO, and RESET and close work all the same.

A cell has the errno of the call, for an arc the state that GET shows afterwards, and behind
the semicolon what else can be seen: whether the data file lives, or what the next calls answer.
";

/// The whole page.
fn render(observed: &Observed) -> String {
    let mut page = HEAD.to_owned();
    page += "\nThe command that the operation needs...\n\n";
    for kind in &KINDS {
        let _ = writeln!(page, "* *{}*: {}", kind.name, kind.means);
    }
    page += "\nOne fault at a time\n===================\n";
    for (row, cells) in ROWS.iter().zip(&observed.matrix) {
        let title = title(row);
        let _ = writeln!(page, "\n{title}\n{}\n", "-".repeat(title.chars().count()));
        let seen = KINDS.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
        page += &match row.command {
            Some(_) => simple_table(merged(seen.map(|(k, cell)| (k.name, cell.as_str())))),
            None => seen.map(|(_, cell)| format!("{cell}\n")).collect(),
        };
    }
    let _ = writeln!(page, "\n{GARBAGE}\n{}\n", "=".repeat(GARBAGE.len()));
    let names = SPECIALS.iter().map(name);
    let cells = observed.specials.iter().map(String::as_str);
    page += &simple_table(names.zip(cells).collect());
    page
}

/// The heading of the section with the cells of a row.
fn title(row: &Row) -> String {
    let name = row.operation.name();
    match row.command {
        Some(command) => format!("{name}: {}", command.to_uppercase().replace('-', "_")),
        None => format!("{name}: no command"),
    }
}

/// The first column of a special.
fn name(special: &Special) -> String {
    format!("{}: {}", special.operation.name(), special.what)
}

/// Rows with the same second column share a line.
fn merged<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, &'a str)> {
    let mut merged: Vec<(String, &str)> = Vec::new();
    for (name, cell) in rows {
        match merged.iter_mut().find(|(_, seen)| *seen == cell) {
            Some((names, _)) => {
                *names += ", ";
                *names += name;
            }
            None => merged.push((name.to_owned(), cell)),
        }
    }
    merged
}

/// Two columns.
fn simple_table(rows: Vec<(String, &str)>) -> String {
    let width = |column: fn(&(String, &str)) -> usize| rows.iter().map(column).max().unwrap_or(1);
    let first = width(|(name, _)| name.chars().count());
    let second = width(|(_, cell)| cell.chars().count());
    let rule = format!("{}  {}\n", "=".repeat(first), "=".repeat(second));
    let mut text = rule.clone();
    for (name, cell) in &rows {
        let _ = writeln!(text, "{name:first$}  {cell}");
    }
    text + &rule
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../Documentation/faults.rst")
}

/// Compares the page with the tree's, or rewrites that.
pub(crate) fn check(observed: &Observed) -> Result<()> {
    let page = render(observed);
    let path = path();
    if std::env::var_os(REWRITE).is_some() {
        return fs::write(&path, page).with_context(|| format!("{}", path.display()));
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let differences: Vec<String> = differences(&known, &page);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        "Documentation/faults.rst does not say what was observed ({REWRITE}=1 rewrites it):\n{}",
        differences.join("\n")
    )
}

/// Compares only the cells that were observed with those of the tree's page.
pub(crate) fn check_some(observed: &Observed) -> Result<()> {
    let path = path();
    let known = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let wrong = contradictions(&known, observed);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "Documentation/faults.rst does not say what was observed:\n{}",
        wrong.join("\n")
    )
}

/// Observed cells that the page does not have.
fn contradictions(page: &str, observed: &Observed) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |title: &str, name: &str, seen: &str| {
        let known = cell(page, title, name);
        if !seen.is_empty() && known != Some(seen) {
            wrong.push(format!(
                "[{title}] {name}: {seen}, not {}",
                known.unwrap_or("a cell of the page")
            ));
        }
    };
    for (row, cells) in ROWS.iter().zip(&observed.matrix) {
        for (kind, seen) in KINDS.iter().zip(cells) {
            let name = row.command.map_or("", |_| kind.name);
            compare(&title(row), name, seen);
        }
    }
    for (special, seen) in SPECIALS.iter().zip(&observed.specials) {
        compare(GARBAGE, &name(special), seen);
    }
    wrong
}

/// The second column of a page's table, by the heading above it and one of the names in the first
/// column. A section without a table is found by the empty name.
fn cell<'a>(page: &'a str, title: &str, name: &str) -> Option<&'a str> {
    let (_, lines) = sections(page).into_iter().find(|(t, _)| *t == title)?;
    lines
        .into_iter()
        .find_map(|line| match line.split_once("  ") {
            _ if name.is_empty() => Some(line),
            Some((first, second)) if first == name || first.split(", ").any(|n| n == name) => {
                Some(second.trim_start())
            }
            _ => None,
        })
}

/// Lines of one that the other does not have, with the heading above them.
fn differences(known: &str, seen: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (sign, one, other) in [('-', known, seen), ('+', seen, known)] {
        let sections = sections(other);
        for (title, lines) in self::sections(one) {
            let there = sections.iter().find(|(name, _)| *name == title);
            for line in lines {
                if !there.is_some_and(|(_, others)| others.contains(&line)) {
                    found.push(format!("{sign} [{title}] {line}"));
                }
            }
        }
    }
    found
}

fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections = vec![("", Vec::new())];
    let mut last = "";
    for line in page.lines() {
        let underline = line.starts_with("---") || line.starts_with("===");
        if underline && !last.is_empty() && line.len() == last.len() && !line.contains(' ') {
            sections.push((last, Vec::new()));
        } else if !line.is_empty() && !underline {
            if let Some((_, lines)) = sections.last_mut() {
                lines.push(line);
            }
        }
        last = line;
    }
    sections
}

#[test]
fn tables_merge_equal_cells() {
    let rows = [("a", "EIO"), ("bb", "OK"), ("c", "EIO")];
    assert_eq!(
        simple_table(merged(rows.into_iter())),
        "====  ===\na, c  EIO\nbb    OK\n====  ===\n"
    );
}

#[test]
fn a_page_that_says_otherwise_is_found_out() {
    let observed = |cell: &str| Observed {
        matrix: ROWS
            .iter()
            .map(|_| KINDS.iter().map(|_| cell.to_owned()).collect())
            .collect(),
        specials: SPECIALS.iter().map(|_| cell.to_owned()).collect(),
    };
    let (one, other) = (render(&observed("EIO")), render(&observed("OK")));
    assert!(differences(&one, &one).is_empty());
    assert!(differences(&one, &other).len() >= 2 * ROWS.len());
}

#[test]
fn an_observed_cell_is_compared_with_its_place_in_the_page() {
    // As in a run, a row without a command has the cell of the first kind only.
    let observed = |odd: &str| Observed {
        matrix: ROWS
            .iter()
            .map(|row| {
                let cell = |k: usize| match (row.command, k) {
                    (None, 1..) => "",
                    (Some(_), 1) => odd,
                    _ => "EIO; and more",
                };
                (0..KINDS.len()).map(|k| cell(k).to_owned()).collect()
            })
            .collect(),
        specials: SPECIALS.iter().map(|_| odd.to_owned()).collect(),
    };
    let page = render(&observed("OK"));
    assert_eq!(contradictions(&page, &observed("OK")), [""; 0]);
    let commands = ROWS.iter().filter(|row| row.command.is_some()).count();
    let other = contradictions(&page, &observed("ENODEV"));
    assert_eq!(other.len(), commands + SPECIALS.len(), "{other:?}");
    let none = Observed {
        matrix: vec![vec![String::new(); KINDS.len()]; ROWS.len()],
        specials: vec![String::new(); SPECIALS.len()],
    };
    assert_eq!(contradictions(&page, &none), [""; 0]);
}
