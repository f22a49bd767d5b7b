// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Copies the files of the driver for user space, twice: `real` has them as they are, `bugs` has a
//! switch at the place of each bug of [`bugs::BUGS`].
//!
//! A copy ends before the KUnit tests of its file. The only other change is the checksum of the
//! kernel, which user space does not have.

#[path = "build/bugs.rs"]
mod bugs;

use std::{collections::BTreeMap, env, fs, path::Path};

use anyhow::{ensure, Context, Result};

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
    let out = env::var("OUT_DIR")?;
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drivers/vfio");
    let mut files = BTreeMap::new();
    for (from, to) in SOURCES {
        let path = drivers.join(from);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        files.insert(*to, copy(&text));
    }
    let (file, from, to, with) = CHECKSUM;
    let text = files.get_mut(file).context(file)?;
    let start = text.find(from).with_context(|| format!("no {from:?}"))?;
    let end = text.find(to).with_context(|| format!("no {to:?}"))?;
    ensure!(start < end, "{from:?} stands behind {to:?}");
    text.replace_range(start..end, with);
    write(&Path::new(&out).join("real"), &files)?;
    for bug in bugs::BUGS {
        let text = files.get_mut(bug.path).context(bug.path)?;
        let count = text.matches(bug.find).count();
        ensure!(
            count == 1,
            "{}: {:?} occurs {count} times",
            bug.path,
            bug.find
        );
        let switch = format!("crate::bugs::is({:?})", bug.name);
        *text = text.replace(bug.find, &bug.with.replace("BUG", &switch));
    }
    write(&Path::new(&out).join("bugs"), &files)?;
    let names: Vec<_> = bugs::BUGS.iter().map(|bug| bug.name).collect();
    let names = format!("const NAMES: &[&str] = &{names:#?};\n");
    Ok(fs::write(Path::new(&out).join("names.rs"), names)?)
}

fn write(folder: &Path, files: &BTreeMap<&str, String>) -> Result<()> {
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    Ok(())
}

/// The code of a file. Its inner documentation goes, because `include!` has no place for it.
fn copy(text: &str) -> String {
    let code = text.split("#[kunit_tests").next().unwrap_or_default();
    let code: Vec<&str> = code
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .collect();
    code.join("\n")
}
