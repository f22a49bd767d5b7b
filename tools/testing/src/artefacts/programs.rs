// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The Rust programs: built by this machine's cargo, linked statically, so
//! that they run in the box and in guests whatever libc is there.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{ensure, Context, Result};
use serde_json::Value;

use crate::progress;

/// Packages whose programs run in or beside host boxes; those that the
/// workspace does not have are left out.
const PACKAGES: &[&str] = &[
    "dlr-agent",
    "dlr-guest",
    "dlr-measure",
    "dlr-nic",
    "dlr-traffic",
    "vfio-mig",
];

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds all programs and returns the folder that holds them.
pub(super) fn build(tree: &Path, products: &Path, bindgen: &Path) -> Result<PathBuf> {
    let members = members(tree)?;
    let target = products.join("static");
    fs::create_dir_all(&target)?;
    let mut command = Command::new(cargo());
    command
        .arg("build")
        .args(["--target", TARGET])
        .args(
            PACKAGES
                .iter()
                .filter(|package| members.contains(**package))
                .flat_map(|package| ["--package", package]),
        )
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("DLR_BINDGEN", bindgen);
    progress::step(
        "build the programs",
        &mut command,
        &products.join("programs.log"),
    )?;
    Ok(target.join(TARGET).join("debug"))
}

/// The cargo that runs this, or the one in `PATH`.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Names of the workspace's packages.
pub(crate) fn members(tree: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(tree)
        .output()
        .context("cannot run cargo: install a Rust toolchain (1.85 or later), e.g. by rustup")?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages
        .iter()
        .filter_map(|p| p["name"].as_str().map(str::to_string))
        .collect())
}

/// Writes a script that runs the root file system's bindgen on this machine
/// through its own loader, and returns its path.
pub(super) fn bindgen_wrapper(rootfs: &Path, products: &Path) -> Result<PathBuf> {
    fs::create_dir_all(products)?;
    let path = products.join("bindgen");
    let llvm = fs::read_dir(rootfs.join("usr/lib"))?
        .flatten()
        .map(|entry| entry.path().join("lib"))
        .find(|lib| {
            lib.to_string_lossy().contains("/llvm-")
                && fs::read_dir(lib).is_ok_and(|mut files| {
                    files.any(|f| {
                        f.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("libclang"))
                    })
                })
        })
        .context("no libclang in the root file system")?;
    let script = format!(
        "#!/bin/sh\n\
         # Written by dlr-box: bindgen of the host box's root file system.\n\
         root='{root}'\n\
         llvm='{llvm}'\n\
         LIBCLANG_PATH=\"$llvm\" exec \"$root/usr/lib64/ld-linux-x86-64.so.2\" \\\n\
         \x20   --library-path \"$root/usr/lib/x86_64-linux-gnu:$llvm\" \\\n\
         \x20   \"$root/usr/bin/bindgen\" \"$@\"\n",
        root = rootfs.display(),
        llvm = llvm.display()
    );
    if fs::read_to_string(&path).ok().as_deref() != Some(&script) {
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(path)
}
