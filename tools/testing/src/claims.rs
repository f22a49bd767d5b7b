// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Claims that the driver's build checks by `assert_not_impl!`: shown here that they can fail.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

/// The driver's own file, which the kernel builds.
const FILE: &str = "../../drivers/vfio/rust/ext/assert_not_impl.rs";

/// Compiles the assertion that `Thing` does not implement `bound`, where `has` is what `Thing` has.
fn compile(bound: &str, has: &str) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("claim.rs");
    let text = format!(
        "#[path = {:?}] mod claim;\npub struct Thing;\n{has}\n\
         claim::assert_not_impl!(Thing: {bound});\n",
        file.canonicalize().unwrap()
    );
    fs::write(&source, text).unwrap();
    Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition", "2021", "--crate-type", "lib"])
        .args(["--emit", "metadata", "--color", "never", "--out-dir"])
        .arg(folder.path())
        .arg(&source)
        .output()
        .unwrap()
}

/// Each form of bound that the driver uses, an implementation of it, and one of something like it.
const FORMS: &[(&str, &str, &str)] = &[
    (
        "Clone",
        "impl Clone for Thing { fn clone(&self) -> Self { Self } }",
        "impl Default for Thing { fn default() -> Self { Self } }",
    ),
    (
        "AsRef<u8>",
        "impl AsRef<u8> for Thing { fn as_ref(&self) -> &u8 { &0 } }",
        "impl AsRef<u16> for Thing { fn as_ref(&self) -> &u16 { &0 } }",
    ),
    (
        "From<u8>",
        "impl From<u8> for Thing { fn from(_: u8) -> Self { Self } }",
        "impl From<u16> for Thing { fn from(_: u16) -> Self { Self } }",
    ),
    (
        "core::ops::Deref",
        "impl core::ops::Deref for Thing { type Target = u8; fn deref(&self) -> &u8 { &0 } }",
        "impl AsRef<u8> for Thing { fn as_ref(&self) -> &u8 { &0 } }",
    ),
    (
        "core::ops::Deref<Target = u8>",
        "impl core::ops::Deref for Thing { type Target = u8; fn deref(&self) -> &u8 { &0 } }",
        "impl core::ops::Deref for Thing { type Target = u16; fn deref(&self) -> &u16 { &0 } }",
    ),
];

#[test]
fn a_claim_fails_the_build_only_if_the_trait_is_implemented() {
    for (bound, implemented, other) in FORMS {
        for has in ["", other] {
            let said = compile(bound, has);
            let text = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.status.success(), "{bound}, `{has}`: {text}");
        }
        let said = compile(bound, implemented);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(!said.status.success(), "{bound} is implemented: {text}");
        // This error and no other one: the rest of the text is right.
        let errors: Vec<_> = text.lines().filter(|l| l.starts_with("error[")).collect();
        assert_eq!(
            errors,
            ["error[E0283]: type annotations needed"],
            "{bound}: {text}"
        );
    }
}
