// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Makes the copy of the tree that has all bugs in it, each behind its switch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{bail, ensure, Context, Result};

use super::list::Mutant;
use crate::artefacts::module::collect;

/// What is copied: all that the driver and the programs are built from.
const PLACES: &[&str] = &[
    "Kbuild",
    "Cargo.toml",
    "Cargo.lock",
    "clippy.toml",
    "drivers",
    "include",
    "samples",
    "tools",
];

/// Where bugs are put.
const DRIVER: &str = "drivers/vfio";
const NIC: &str = "samples/dlr-nic";

/// The root of the driver's crate, and the text before which its parameter goes.
const ROOT: &str = "drivers/vfio/pci/dlr/main.rs";
const PARAMETERS: &str = "params: {";

/// The driver's switch.
const SWITCH: &str = "
/// Which bug is on.
mod mutant {
    pub(crate) fn is_on(number: u32) -> bool {
        crate::module_parameters::mutant.value() == number
    }
}
";

const PARAMETER: &str = "params: {
        mutant: u32 {
            default: 0,
            description: \"number of the bug that is on\",
        },";

/// The variable that is the NIC's switch.
pub(super) const VARIABLE: &str = "DLR_MUTANT";

/// What a bug is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Driver,
    Nic,
}

/// Brings the copy up to date: `copy` is `tree` with all of `mutants` in it. The switch of a mutant
/// is its place in the list, from 1. Returns what each of them is in, by id.
pub(super) fn copy(tree: &Path, copy: &Path, mutants: &[Mutant]) -> Result<BTreeMap<String, Part>> {
    let mut parts = BTreeMap::new();
    let mut files = BTreeMap::new();
    for place in PLACES {
        let mut found = BTreeSet::new();
        collect(tree, Path::new(place), &mut found)?;
        for path in found {
            files.insert(path.clone(), fs::read(tree.join(&path))?);
        }
    }
    for (index, mutant) in mutants.iter().enumerate() {
        if mutant.equivalent.is_none() {
            let part = apply(&mut files, mutant, index + 1)
                .with_context(|| format!("mutant {}", mutant.id))?;
            parts.insert(mutant.id.clone(), part);
        }
    }
    let root = files
        .get_mut(Path::new(ROOT))
        .context("the tree has no driver")?;
    let text = String::from_utf8_lossy(root).into_owned();
    ensure!(
        text.contains(PARAMETERS),
        "{ROOT} has no `{PARAMETERS}`: where does the switch go?"
    );
    *root = (text.replace(PARAMETERS, PARAMETER) + SWITCH).into_bytes();
    write(copy, &files)?;
    Ok(parts)
}

/// The driver's parameter has the switch's place in the list.
fn apply(files: &mut BTreeMap<PathBuf, Vec<u8>>, mutant: &Mutant, number: usize) -> Result<Part> {
    let mut places = Vec::new();
    for (path, contents) in files.iter() {
        let source = path.extension().is_some_and(|e| e == "rs")
            && (path.starts_with(DRIVER) || path.starts_with(NIC));
        if let (true, Ok(text)) = (source, std::str::from_utf8(contents)) {
            places.extend(find(text, &mutant.find).map(|range| (path.clone(), range)));
        }
    }
    let (path, range) = match places.as_slice() {
        [one] => one.clone(),
        [] => bail!("its text is not in the tree:\n{}", mutant.find),
        many => bail!("its text is in the tree {} times: {many:?}", many.len()),
    };
    let part = if path.starts_with(DRIVER) {
        Part::Driver
    } else {
        Part::Nic
    };
    let switch = if part == Part::Driver {
        format!("crate::mutant::is_on({number})")
    } else {
        format!(
            "std::env::var_os({VARIABLE:?}).is_some_and(|on| on == {number:?})",
            number = number.to_string()
        )
    };
    let contents = files.get_mut(&path).context("the file went away")?;
    let mut text = String::from_utf8_lossy(contents).into_owned();
    text.replace_range(range, &mutant.with.replace("MUTANT", &switch));
    *contents = text.into_bytes();
    Ok(part)
}

/// Where the words of `anchor` stand in `text`, whatever white space is between them.
fn find<'a>(text: &'a str, anchor: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    let words: Vec<_> = anchor.split_whitespace().collect();
    let first = words.first().copied().unwrap_or("\0");
    text.match_indices(first).filter_map(move |(start, _)| {
        let mut end = start;
        for word in &words {
            let rest = text.get(end..)?;
            let space = rest.len() - rest.trim_start().len();
            end += space + rest.trim_start().strip_prefix(word).map(|_| word.len())?;
        }
        Some(start..end)
    })
}

/// Files that did not change keep their times, so that only what changed is built again.
fn write(copy: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let mut old = BTreeSet::new();
    if copy.is_dir() {
        for place in PLACES {
            collect(copy, Path::new(place), &mut old)?;
        }
    }
    for path in old.iter().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(copy.join(path))?;
    }
    for (path, contents) in files {
        let to = copy.join(path);
        if fs::read(&to).ok().as_ref() != Some(contents) {
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::write(&to, contents).with_context(|| format!("{}", to.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mutants::list;

    #[test]
    fn words_are_found_over_lines() {
        let text = "let x = f(\n    a,\n    b,\n);\nlet y = f(a);";
        let found: Vec<_> = find(text, "f( a, b,").collect();
        assert_eq!(found.len(), 1);
        assert_eq!(&text[found[0].clone()], "f(\n    a,\n    b,");
        assert_eq!(find(text, "let").count(), 2);
        assert_eq!(find(text, "let z").count(), 0);
    }

    /// Whoever changes a line that a mutant is about changes the mutant, too.
    #[test]
    fn every_mutant_of_the_tree_has_its_place() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mutants = list::read(&tree.join("tools/testing/mutants")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        copy(&tree, folder.path(), &mutants).unwrap();
    }
}
