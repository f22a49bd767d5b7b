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
    for root in roots(files) {
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

/// Those of `files` that are roots of crates.
pub(super) fn roots(files: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    files.iter().filter(|file| is_root(file))
}

/// Roots of crates: where cargo looks for them, and those of the kernel modules in `Kbuild`. A
/// program or a test of several files has a folder of its own with a `main.rs`.
fn is_root(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default();
    let folder = file.parent().unwrap_or(file);
    let above = folder.parent().unwrap_or(folder);
    (folder.ends_with("src") && (name == "lib.rs" || name == "main.rs"))
        || is_root_of_module(file)
        || (holds_roots(folder) && file.extension().is_some_and(|e| e == "rs"))
        || (holds_roots(above) && name == "main.rs")
}

/// Modules may be in a folder `tests`, too; that of cargo is beside the package's file.
fn holds_roots(folder: &Path) -> bool {
    let package = || folder.with_file_name("Cargo.toml").is_file();
    folder.ends_with("bin")
        || (["tests", "benches", "examples"]
            .iter()
            .any(|name| folder.ends_with(name))
            && package())
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    /// The loops of a package in `x`, where three files beside `root` make one.
    fn looped(root: &str) -> Vec<String> {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join(root);
        let folder = root.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        fs::create_dir_all(tree.path().join("x")).unwrap();
        fs::write(tree.path().join("x/Cargo.toml"), "").unwrap();
        fs::write(&root, "mod a; mod b; mod c; use a::A;").unwrap();
        for (name, text) in [
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; pub struct C;"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        loops(tree.path(), &[root]).unwrap()
    }

    #[test]
    fn each_kind_of_crate_is_looked_at() {
        for root in [
            "x/src/lib.rs",
            "x/src/main.rs",
            "x/src/bin/y/main.rs",
            "x/tests/y/main.rs",
            "samples/vfio/main.rs",
        ] {
            let folder = Path::new(root).parent().unwrap().display();
            let want = format!("{folder}/a.rs, {folder}/b.rs, {folder}/c.rs");
            assert_eq!(looped(root), [want], "{root}");
        }
        for module in ["x/src/y/main.rs", "x/src/tests/y/main.rs"] {
            assert!(looped(module).is_empty(), "{module}");
        }
    }

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
