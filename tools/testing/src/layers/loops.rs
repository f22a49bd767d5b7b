// SPDX-License-Identifier: Apache-2.0 OR MIT

//! No file takes names from a file that, directly or through others, takes names from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::imports::Crate;

type Arrows = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The loops of all crates whose root files are among `files`: one line each, relative to `tree`.
pub(super) fn loops(tree: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for root in files.iter().filter(|file| is_root(file)) {
        let mut arrows = plain(Crate::read(root)?.arrows());
        if is_root_of_module(root) {
            // What other files name there is made by `module!`: it stands in the root, and needs
            // nothing else of it.
            let root = root.canonicalize()?;
            arrows.values_mut().for_each(|to| {
                to.remove(&root);
            });
        }
        for group in groups(&arrows) {
            let names: Vec<_> = group
                .iter()
                .map(|file| {
                    file.strip_prefix(tree)
                        .unwrap_or(file)
                        .display()
                        .to_string()
                })
                .collect();
            lines.push(names.join(", "));
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Roots of crates: where cargo looks for them, and those of the kernel modules in `Kbuild`.
fn is_root(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default();
    (folder == "src" && (name == "lib.rs" || name == "main.rs"))
        || is_root_of_module(file)
        || (folder == "bin" && file.extension().is_some_and(|e| e == "rs"))
}

fn is_root_of_module(file: &Path) -> bool {
    ["drivers/vfio/pci/dlr/main.rs", "samples/vfio/main.rs"]
        .iter()
        .any(|root| file.ends_with(root))
}

/// Sets of files each of which leads to all others of its set.
fn groups(arrows: &Arrows) -> Vec<BTreeSet<PathBuf>> {
    let reach: BTreeMap<_, _> = arrows
        .keys()
        .map(|from| (from, reached(arrows, from)))
        .collect();
    let mut found = BTreeSet::new();
    for (from, to) in &reach {
        let group: BTreeSet<_> = to
            .iter()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(*from)))
            .cloned()
            .collect();
        if group.contains(*from) {
            found.insert(group);
        }
    }
    found.into_iter().collect()
}

/// A file that is named with a detour, as `#[path]` does, is the same file.
fn plain(arrows: Arrows) -> Arrows {
    let plain = |path: PathBuf| path.canonicalize().unwrap_or(path);
    arrows
        .into_iter()
        .map(|(from, to)| (plain(from), to.into_iter().map(plain).collect()))
        .collect()
}

fn reached(arrows: &Arrows, from: &Path) -> BTreeSet<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![from.to_path_buf()];
    while let Some(file) = waiting.pop() {
        for to in arrows.get(&file).into_iter().flatten() {
            if seen.insert(to.clone()) {
                waiting.push(to.clone());
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_found_and_what_leads_into_it_is_not_part_of_it() {
        let arrows = [("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("e", "a")];
        let mut all = Arrows::new();
        for (from, to) in arrows {
            all.entry(from.into()).or_default().insert(to.into());
        }
        let want: BTreeSet<PathBuf> = ["b", "c"].map(PathBuf::from).into();
        assert_eq!(groups(&all), [want]);
        all.remove(Path::new("c"));
        assert!(groups(&all).is_empty());
    }
}
