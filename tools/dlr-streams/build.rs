// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Copies the files of the driver for user space, twice: `real` has them as they are, `bugs` has a
//! switch at the place of each bug of [`bugs::BUGS`].
//!
//! A copy ends before the KUnit tests of its file. The only other change is the checksum of the
//! kernel, which user space does not have.

#[path = "build/bugs.rs"]
mod bugs;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use dlr_copies::Tree;

/// A file below `drivers/vfio`, and its place in a copy.
const SOURCES: &[(&str, &str)] = &[
    ("pci/dlr/vf/stream.rs", "stream/mod.rs"),
    ("pci/dlr/vf/stream/room.rs", "stream/room.rs"),
    ("pci/dlr/vf/framing.rs", "framing.rs"),
    ("pci/dlr/proto/section.rs", "section.rs"),
    ("rust/ext/crc32c.rs", "crc32c.rs"),
    ("rust/vfio/migration/framing.rs", "layer_framing.rs"),
];

/// The file of the checksum, the texts from which to which it is cut, and what stands there in a
/// copy: the end of `update()`, which calls the kernel by way of `update_raw()`.
const CHECKSUM: (&str, &str, &str, &str) = (
    "crc32c.rs",
    "        // SAFETY: `data` is valid",
    "    /// Adds `len` bytes whose checksum",
    "        self.0 = !::crc32c::crc32c_append(!self.0, data);\n    }\n\n",
);

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(CONFIG_KUNIT, values(\"y\"))");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drivers/vfio");
    let mut tree = Tree::default();
    for (from, to) in SOURCES {
        tree.read(&drivers.join(from), Path::new(to))?;
    }
    let (file, from, to, with) = CHECKSUM;
    tree.cut(file, from, Some(to))?;
    tree.replace(file, to, &[with, to].concat())?;
    tree.write(&out.join("real"))?;
    tree.add_bugs(bugs::BUGS)?;
    tree.write(&out.join("bugs"))?;
    let names: Vec<_> = bugs::BUGS.iter().map(|bug| bug.name).collect();
    let names = format!("const NAMES: &[&str] = &{names:#?};\n");
    Ok(fs::write(out.join("names.rs"), names)?)
}
