// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What a driver must not be able to do without `unsafe`: a copy of the samples that tries it, in
//! which the compiler has to refuse each attempt and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{bail, ensure, Context as _, Result};

use super::tally::Context;
use crate::artefacts::module::{collect, Project};

/// An attempt.
struct Wrong {
    file: &'static str,
    /// Occurs once in the file.
    find: &'static str,
    with: &'static str,
    /// A line of the compiler.
    error: &'static str,
}

/// The same pass of the compiler finds all of them: an earlier one would end the build.
const WRONG: &[Wrong] = &[
    // A hook takes the data of a write, and has the core copy it from the user once more.
    Wrong {
        file: "samples/vfio/edu.rs",
        find: "let register = write.take_register(&[4, 8])?;",
        with: "let register = write.take_register(&[4, 8])?; write.forward()?;",
        error: "error[E0382]: use of moved value: `write`",
    },
    // A driver keeps the function for longer than the callback.
    Wrong {
        file: "samples/vfio/edu.rs",
        find: "fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {",
        with: "fn open(_this: Pin<&Self>, pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
            let _kept: PciFunction<'static> = pdev;",
        error: "error: lifetime may not live long enough",
    },
];

/// Builds the copy, which must not succeed.
pub(super) fn check(context: &Context<'_>) -> Result<()> {
    let workshop = context.workshop;
    let tree = workshop.products().join("refused");
    copy(workshop.tree(), &tree)?;
    let log = workshop.products().join("samples-refused/make.log");
    // What is judged is from this build.
    if log.exists() {
        fs::remove_file(&log)?;
    }
    let built = workshop.build_project(&Project::samples(&tree), "samples-refused", "SAMPLES=y");
    ensure!(built.is_err(), "it was built: {built:?}");
    let said = fs::read_to_string(&log).with_context(|| format!("{}", log.display()))?;
    judge(&said).with_context(|| format!("see {}", log.display()))
}

/// Makes the copy anew.
fn copy(tree: &Path, to: &Path) -> Result<()> {
    let mut files = BTreeSet::new();
    for top in Project::samples(tree).sources {
        collect(tree, Path::new(top), &mut files)?;
    }
    if to.is_dir() {
        fs::remove_dir_all(to)?;
    }
    for file in &files {
        let path = to.join(file);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::copy(tree.join(file), path)?;
    }
    for wrong in WRONG {
        let path = to.join(wrong.file);
        let text = fs::read_to_string(&path)?;
        ensure!(
            text.matches(wrong.find).count() == 1,
            "{} does not have `{}` once",
            wrong.file,
            wrong.find
        );
        fs::write(&path, text.replace(wrong.find, wrong.with))?;
    }
    Ok(())
}

/// Each error is an attempt's, and each attempt has one.
fn judge(said: &str) -> Result<()> {
    let errors: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("error") && !line.starts_with("error: aborting"))
        .collect();
    for wrong in WRONG {
        if !errors.contains(&wrong.error) {
            bail!("the compiler lets `{}` through: {errors:?}", wrong.with);
        }
    }
    ensure!(errors.len() == WRONG.len(), "other errors: {errors:?}");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_its_place_in_the_tree() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folder = tempfile::tempdir().unwrap();
        copy(&tree, folder.path()).unwrap();
    }

    #[test]
    fn an_attempt_that_compiles_and_another_error_are_failures() {
        let mut lines: Vec<_> = WRONG.iter().map(|wrong| wrong.error).collect();
        lines.push("error: aborting due to 2 previous errors");
        let said = |lines: &[&str]| judge(&lines.join("\n"));
        said(&lines).unwrap();
        assert!(said(&lines[1..]).is_err());
        lines.push("error[E0425]: cannot find value `x` in this scope");
        assert!(said(&lines).is_err());
        assert!(said(&[]).is_err());
    }
}
