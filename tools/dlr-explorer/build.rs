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
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use dlr_copies::Tree;

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(CONFIG_KUNIT, values(\"y\"))");
    println!("cargo::rustc-check-cfg=cfg(CONFIG_RUST_DEBUG_ASSERTIONS)");
    println!("cargo::rustc-check-cfg=cfg(vfio_bench)");
    println!("cargo::rustc-cfg=CONFIG_RUST_DEBUG_ASSERTIONS");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tree = Tree::default();
    for (from, to) in sources::SOURCES {
        tree.read(&root.join(from), Path::new(to))?;
    }
    for (folder, old, new) in sources::EVERYWHERE {
        tree.replace_all(folder, old, new)?;
    }
    for (path, from, to) in sources::CUTS {
        tree.cut(path, from, *to).context("a cut")?;
    }
    for (path, old, new) in sources::CHANGES {
        tree.replace(path, old, new).context("a change")?;
    }
    tree.write(&out.join("real"))?;
    tree.add_bugs(bugs::BUGS)?;
    tree.write(&out.join("bugs"))?;
    let names: Vec<_> = bugs::BUGS.iter().map(|bug| bug.name).collect();
    let names = format!("const NAMES: &[&str] = &{names:#?};\n");
    Ok(fs::write(out.join("names.rs"), names)?)
}
