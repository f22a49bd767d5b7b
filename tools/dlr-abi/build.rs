// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Generates the Rust view of `include/uapi/linux/dlr.h`.
//!
//! Runs the command in `DLR_BINDGEN` (the Makefile points it at the bindgen of
//! the cached root file system) or `bindgen` from `PATH`.

use std::{env, path::PathBuf, process::Command};

fn main() -> Result<(), String> {
    let root = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("../..");
    let header = root.join("include/uapi/linux/dlr.h");
    let stubs = PathBuf::from(var("CARGO_MANIFEST_DIR")?).join("include");
    let out = PathBuf::from(var("OUT_DIR")?).join("dlr.rs");
    println!("cargo:rerun-if-changed={}", header.display());
    println!("cargo:rerun-if-changed={}", stubs.display());
    println!("cargo:rerun-if-env-changed=DLR_BINDGEN");

    let bindgen = env::var("DLR_BINDGEN").unwrap_or_else(|_| "bindgen".into());
    let derive =
        "zerocopy::FromBytes,zerocopy::IntoBytes,zerocopy::KnownLayout,zerocopy::Immutable";
    let output = Command::new(&bindgen)
        .arg(&header)
        .args(["--use-core", "--rust-target", "1.85"])
        .args(["--default-enum-style", "consts", "--no-prepend-enum-name"])
        .args(["--allowlist-item", "(dlr|DLR)_.*"])
        .arg(format!("--with-derive-custom-struct=.*={derive}"))
        .args(["--no-layout-tests", "--"])
        .arg(format!("-I{}", stubs.display()))
        .output()
        .map_err(|e| {
            format!(
                "cannot run `{bindgen}`: {e}. Build through `make` (it brings bindgen), install \
                 the Debian package `bindgen`, or set DLR_BINDGEN"
            )
        })?;
    if !output.status.success() {
        return Err(format!(
            "`{bindgen}` failed on {}:\n{}",
            header.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    std::fs::write(&out, &output.stdout).map_err(|e| format!("{}: {e}", out.display()))
}

fn var(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}
