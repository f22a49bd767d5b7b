// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Copies the files of the driver and of the NIC for user space, twice: `real` has them as they
//! are, `bugs` has a switch at the place of each bug of [`bugs::BUGS`].
//!
//! A copy ends before the tests of its file. What else a copy changes is in `build/sources.rs`.

#[path = "build/bugs.rs"]
mod bugs;
#[path = "build/sources.rs"]
mod sources;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};

/// Files by their path in the copy.
type Tree = BTreeMap<PathBuf, String>;

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(CONFIG_KUNIT, values(\"y\"))");
    println!("cargo::rustc-check-cfg=cfg(CONFIG_RUST_DEBUG_ASSERTIONS)");
    println!("cargo::rustc-check-cfg=cfg(vfio_bench)");
    println!("cargo::rustc-cfg=CONFIG_RUST_DEBUG_ASSERTIONS");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tree = Tree::new();
    for (from, to) in sources::SOURCES {
        read(&root.join(from), Path::new(to), &mut tree)?;
    }
    for (folder, old, new) in sources::EVERYWHERE {
        let files = tree.iter_mut().filter(|(path, _)| path.starts_with(folder));
        let mut count = 0;
        for (_, text) in files {
            count += text.matches(old).count();
            *text = text.replace(old, new);
        }
        ensure!(count > 0, "{folder}: {old:?} does not occur");
    }
    for (path, from, to) in sources::CUTS {
        let text = file(&mut tree, path)?;
        cut(text, from, *to).with_context(|| format!("{path}: a cut"))?;
    }
    for (path, old, new) in sources::CHANGES {
        let text = file(&mut tree, path)?;
        replace(text, old, new).with_context(|| format!("{path}: a change"))?;
    }
    write(&out.join("real"), &tree)?;
    for bug in bugs::BUGS {
        let switch = format!("crate::bugs::is(\"{}\")", bug.name);
        let text = file(&mut tree, bug.path)?;
        replace(text, bug.find, &bug.with.replace("BUG", &switch))
            .with_context(|| format!("{}: the place of the bug {}", bug.path, bug.name))?;
    }
    write(&out.join("bugs"), &tree)?;
    let names: Vec<_> = bugs::BUGS.iter().map(|bug| bug.name).collect();
    fs::write(
        out.join("names.rs"),
        format!("const NAMES: &[&str] = &{names:#?};\n"),
    )?;
    Ok(())
}

/// Takes in a file, or all files of a folder.
fn read(from: &Path, to: &Path, tree: &mut Tree) -> Result<()> {
    println!("cargo::rerun-if-changed={}", from.display());
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            if name != "tests" {
                read(&from.join(&name), &to.join(&name), tree)?;
            }
        }
        return Ok(());
    }
    let text = fs::read_to_string(from).with_context(|| format!("{}", from.display()))?;
    tree.insert(to.to_owned(), copy(&text));
    Ok(())
}

fn file<'a>(tree: &'a mut Tree, path: &str) -> Result<&'a mut String> {
    tree.get_mut(Path::new(path))
        .with_context(|| format!("there is no {path}"))
}

fn replace(text: &mut String, old: &str, new: &str) -> Result<()> {
    let count = text.matches(old).count();
    ensure!(count == 1, "{old:?} occurs {count} times");
    *text = text.replace(old, new);
    Ok(())
}

/// Removes what stands from `from` to before `to`, or to the end.
fn cut(text: &mut String, from: &str, to: Option<&str>) -> Result<()> {
    let start = text.find(from).with_context(|| format!("no {from:?}"))?;
    let end = match to {
        Some(to) => text.find(to).with_context(|| format!("no {to:?}"))?,
        None => text.len(),
    };
    ensure!(start < end, "{from:?} stands behind {to:?}");
    text.replace_range(start..end, "");
    Ok(())
}

fn write(folder: &Path, tree: &Tree) -> Result<()> {
    for (path, text) in tree {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// The code of a file. Its inner documentation goes, because `include!` has no place for it, and so
/// does what only means something to pinned values: here a value is made and then moved.
fn copy(text: &str) -> String {
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
