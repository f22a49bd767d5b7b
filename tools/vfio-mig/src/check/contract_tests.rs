// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Documentation/contract.rst against what there is: every item has a row, and whatever a row names
//! exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::cases;

const PAGE: &str = include_str!("../../../../Documentation/contract.rst");

/// Items per letter.
const ITEMS: [(char, u32); 8] = [
    ('F', 11),
    ('S', 19),
    ('D', 20),
    ('R', 12),
    ('L', 22),
    ('K', 13),
    ('P', 14),
    ('B', 17),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Item and what shows it, row by row.
fn rows() -> Vec<(String, String)> {
    let row = |line: &str| {
        let line = line.strip_prefix("   ")?;
        let (item, rest) = line.split_once(", \"")?;
        let shown = rest.strip_suffix('"')?.rsplit_once(", \"")?.1;
        let is_item = item.starts_with(char::is_uppercase) && item.len() <= 3;
        is_item.then(|| (item.to_owned(), shown.to_owned()))
    };
    PAGE.lines().filter_map(row).collect()
}

/// Sources below `folder`, as text.
fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// Tests of KUnit suites, of box tests and of hostile streams, by suite or file.
fn tests() -> BTreeMap<String, String> {
    let mut tests = BTreeMap::new();
    let mut driver = Vec::new();
    sources(&root().join("drivers"), &mut driver);
    for text in driver {
        if let Some((_, rest)) = text.split_once("#[kunit_tests(") {
            let suite = rest.split(')').next().unwrap_or_default().to_owned();
            tests.insert(suite, text);
        }
    }
    for entry in fs::read_dir(root().join("tools/testing/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // A test in several files is a folder.
        let mut texts = Vec::new();
        if path.is_dir() {
            sources(&path, &mut texts);
        } else {
            texts.push(fs::read_to_string(&path).unwrap());
        }
        tests.insert(name, texts.concat());
    }
    let mut streams = Vec::new();
    sources(&root().join("tools/dlr-streams/src"), &mut streams);
    tests.insert("streams".into(), streams.concat());
    tests
}

/// A case, or a pattern that fits one at least.
fn is_case(name: &str, known: &BTreeSet<String>) -> bool {
    match name.strip_suffix('*') {
        Some(start) => known.iter().any(|id| id.starts_with(start)),
        None => known.contains(name),
    }
}

#[test]
fn every_item_has_one_row() {
    let rows: Vec<String> = rows().into_iter().map(|(item, _)| item).collect();
    let wanted = ITEMS
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}{n}")));
    assert_eq!(rows, wanted.collect::<Vec<_>>());
}

#[test]
fn whatever_a_row_names_exists() {
    let known: BTreeSet<String> = cases::all().into_iter().map(|case| case.id).collect();
    let tests = tests();
    let words = [
        "by construction",
        "not applicable",
        "as P4",
        "not shown",
        "a plain vfio-pci",
    ];
    for (item, shown) in rows() {
        for piece in shown.split("; ") {
            if words
                .iter()
                .any(|word| piece == *word || piece.starts_with(&format!("{word} ")))
                || piece.starts_with("not shown: ")
            {
                continue;
            }
            if let Some((suite, names)) = piece.split_once(": ") {
                let text = tests.get(suite);
                let text = text.unwrap_or_else(|| panic!("{item}: there is no {suite}"));
                for name in names.split(", ").filter(|name| !name.contains(' ')) {
                    // Scenarios that share a box are steps of one test, with a name each.
                    let exists = text.contains(&format!("fn {name}("))
                        || text.contains(&format!("scenario(\"{name}\""));
                    assert!(exists, "{item}: {suite} has no test {name}");
                }
                continue;
            }
            for name in piece.split(", ") {
                let name = name.split(' ').next().unwrap_or_default();
                assert!(
                    is_case(name, &known) || name == "as",
                    "{item}: no case {name}"
                );
            }
        }
    }
}
