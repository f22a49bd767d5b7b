// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which cases to run, and which deviations are known.

use std::collections::BTreeMap;

use anyhow::{bail, Context, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Case;

/// `--only` and `--exclude`: globs on identifiers, or names of groups.
pub struct Selection {
    only: Option<GlobSet>,
    exclude: GlobSet,
}

fn globs(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // `L7` means all cases of that item, `L` all of that letter.
        let bare = pattern.bytes().all(|b| b.is_ascii_alphanumeric());
        let letters = pattern.bytes().all(|b| b.is_ascii_uppercase());
        let wider = match (bare, letters) {
            (true, true) => format!("{pattern}[0-9]*"),
            (true, false) => format!("{pattern}.*"),
            (false, _) => pattern.clone(),
        };
        for one in [pattern, &wider] {
            set.add(Glob::new(one).with_context(|| format!("`{one}` is not a pattern"))?);
        }
    }
    Ok(set.build()?)
}

impl Selection {
    /// From the command line; no `only` means all.
    ///
    /// # Errors
    ///
    /// A pattern is malformed.
    pub fn new(only: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self {
            only: (!only.is_empty()).then(|| globs(only)).transpose()?,
            exclude: globs(exclude)?,
        })
    }

    /// Is this case to be run?
    pub fn takes(&self, case: &Case) -> bool {
        let hit = |set: &GlobSet| set.is_match(&case.id) || set.is_match(case.group.name());
        self.only.as_ref().is_none_or(hit) && !hit(&self.exclude)
    }
}

/// Known deviations: identifier and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(pub BTreeMap<String, String>);

impl Expected {
    /// Reads lines of `ID  # why`; empty lines and lines of only a comment count for nothing.
    ///
    /// # Errors
    ///
    /// A line has more than one word, or a case stands there twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut known = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let (id, why) = line.split_once('#').unwrap_or((line, ""));
            let id = id.trim();
            if id.is_empty() {
                continue;
            }
            if id.contains(char::is_whitespace) {
                bail!("line {}: expected `ID  # why`, not `{line}`", at + 1);
            }
            if known.insert(id.to_owned(), why.trim().to_owned()).is_some() {
                bail!("line {}: {id} is there twice", at + 1);
            }
        }
        Ok(Self(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Group, Needs};

    fn taken(only: &[&str], exclude: &[&str]) -> Vec<String> {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let selection = Selection::new(&strings(only), &strings(exclude)).unwrap();
        let case = |id: &str, group| Case::new(group, id, Needs::empty(), "", |_| Ok(()));
        let cases = [
            case("L1.overlap", Group::Logging),
            case("L12.once", Group::Logging),
            case("S1.stop", Group::States),
        ];
        let taken = cases.into_iter().filter(|case| selection.takes(case));
        taken.map(|case| case.id).collect()
    }

    #[test]
    fn patterns_are_items_letters_groups_or_globs() {
        assert_eq!(taken(&[], &[]).len(), 3);
        assert_eq!(taken(&["L1"], &[]), ["L1.overlap"]);
        assert_eq!(taken(&["L"], &[]), ["L1.overlap", "L12.once"]);
        assert_eq!(taken(&["states"], &[]), ["S1.stop"]);
        assert_eq!(taken(&["*once"], &[]), ["L12.once"]);
        assert_eq!(taken(&[], &["L"]), ["S1.stop"]);
        assert_eq!(taken(&["L"], &["L12.once"]), ["L1.overlap"]);
    }

    #[test]
    fn known_deviations_have_reasons() {
        let text = "# mtty\n\nL7.double-start   # always 0\nD7.idle\n";
        let expected = Expected::parse(text).unwrap().0;
        assert_eq!(expected["L7.double-start"], "always 0");
        assert_eq!(expected["D7.idle"], "");
        assert!(Expected::parse("a b").is_err());
        assert!(Expected::parse("a\na").is_err());
    }
}
