// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The bugs: what is wrong, where, and which test has to notice.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{bail, ensure, Context, Result};
use serde::Deserialize;

/// One bug.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    /// Its name.
    pub(super) id: String,
    /// What is wrong, for people.
    pub(super) bug: String,
    /// The text that is replaced, found by its words: white space does not count. It stands in the
    /// tree exactly once.
    #[serde(default)]
    pub(super) find: String,
    /// What replaces it. `MUTANT` becomes an expression that is true when this bug is on.
    #[serde(default)]
    pub(super) with: String,
    /// A KUnit case of the driver, `suite.case`, run natively.
    pub(super) native: Option<String>,
    /// A test of user space, `package name`.
    pub(super) host: Option<String>,
    /// A test in a host box, `file name`.
    pub(super) boxed: Option<String>,
    /// Why no test can notice: the bug is none. Such an entry replaces nothing.
    pub(super) equivalent: Option<String>,
}

/// Where a test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A kernel that is a program of this machine.
    Native,
    /// This machine.
    Host,
    /// A host box.
    Box,
}

impl Place {
    /// From cheap to dear.
    pub(super) const ALL: [Self; 3] = [Self::Native, Self::Host, Self::Box];
}

impl Mutant {
    /// Where its test runs; none if it is equivalent.
    pub(super) fn place(&self) -> Option<Place> {
        match (&self.native, &self.host, &self.boxed) {
            (Some(_), ..) => Some(Place::Native),
            (_, Some(_), _) => Some(Place::Host),
            (.., Some(_)) => Some(Place::Box),
            _ => None,
        }
    }

    /// The name of its test.
    pub(super) fn test(&self) -> &str {
        [&self.native, &self.host, &self.boxed]
            .into_iter()
            .flatten()
            .next()
            .map_or("", String::as_str)
    }

    fn check(&self) -> Result<()> {
        let tests = [&self.native, &self.host, &self.boxed]
            .into_iter()
            .flatten()
            .count();
        if self.equivalent.is_some() {
            ensure!(
                tests == 0 && self.find.is_empty() && self.with.is_empty(),
                "it is equivalent and still has a test or a text"
            );
            return Ok(());
        }
        ensure!(tests == 1, "it names {tests} tests, not one");
        ensure!(!self.find.trim().is_empty(), "it has no `find`");
        ensure!(self.with.contains("MUTANT"), "`with` has no MUTANT");
        match &self.native {
            Some(name) => ensure!(name.contains('.'), "{name} is not `suite.case`"),
            None => ensure!(
                self.test().split_whitespace().count() == 2,
                "{} is not two words",
                self.test()
            ),
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    mutant: Vec<Mutant>,
}

/// Reads all lists of a folder, in the order of their names.
pub(super) fn read(folder: &Path) -> Result<Vec<Mutant>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("{}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        all.extend(parse(&text).with_context(|| format!("{}", path.display()))?);
    }
    let mut ids = BTreeSet::new();
    for mutant in &all {
        if !ids.insert(&mutant.id) {
            bail!("two mutants have the id {}", mutant.id);
        }
    }
    Ok(all)
}

fn parse(text: &str) -> Result<Vec<Mutant>> {
    let file: File = toml::from_str(text)?;
    for mutant in &file.mutant {
        mutant
            .check()
            .with_context(|| format!("mutant {}", mutant.id))?;
    }
    Ok(file.mutant)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_the_tree_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants");
        assert!(!read(&folder).unwrap().is_empty());
    }

    #[test]
    fn a_mutant_has_one_test_and_a_switch() {
        let good = "[[mutant]]\nid='a'\nbug='b'\nfind='x'\nwith='if MUTANT {y} else {x}'\n";
        let parsed = parse(&format!("{good}native='suite.case'")).unwrap();
        assert_eq!(parsed[0].place(), Some(Place::Native));
        assert!(parse(good).is_err());
        assert!(parse(&format!("{good}native='suite'")).is_err());
        assert!(parse(&format!("{good}native='suite.case'\nhost='p t'")).is_err());
        assert!(parse(&good.replace("MUTANT", "true")).is_err());
        assert!(parse("[[mutant]]\nid='a'\nbug='b'\nequivalent='c'").is_ok());
        assert!(parse("[[mutant]]\nid='a'\nbug='b'\nequivalent='c'\nnative='s.c'").is_err());
    }
}
