// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs the test of a mutant in the copy that has all of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use serde::Deserialize;

use super::{
    list::{Mutant, Place},
    outcome::Outcome,
    patch::VARIABLE,
};
use crate::{
    artefacts::{
        module::Project,
        native::{Flavour, Native},
        Workshop,
    },
    ktap::{self, Verdict},
    native::Run,
};

/// How long a test may take. One that does not end has not noticed anything.
const NATIVE_LIMIT: Duration = Duration::from_secs(120);
const HOST_LIMIT: u32 = 120;
const BOX_LIMIT: u32 = 600;

/// What the tests of one place run on. The tests are green on it while no bug is on.
pub(super) struct Bench<'a> {
    bed: Bed<'a>,
    /// The switch of each mutant.
    numbers: &'a BTreeMap<String, usize>,
}

enum Bed<'a> {
    Native {
        native: Native,
        results: PathBuf,
    },
    Host {
        /// The copy: property tests leave what they have found in the tree that they run in.
        copy: PathBuf,
        /// Executables of the tests of each package.
        packages: BTreeMap<String, Vec<PathBuf>>,
    },
    Box {
        workshop: &'a Workshop,
        module: PathBuf,
        programs: PathBuf,
        executables: BTreeMap<String, PathBuf>,
    },
}

/// What cargo says of an executable.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    package_id: String,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

impl<'a> Bench<'a> {
    /// Builds what is needed and runs the tests of `mutants` with no bug on.
    pub(super) fn prepare(
        workshop: &'a Workshop,
        copy: &Path,
        place: Place,
        mutants: &[&Mutant],
        numbers: &'a BTreeMap<String, usize>,
        in_programs: bool,
    ) -> Result<Self> {
        let bed = match place {
            Place::Native => Bed::Native {
                native: workshop.native_of(
                    Flavour::Plain,
                    &Project::driver(copy),
                    "mutants-module",
                )?,
                results: workshop.products().join("native"),
            },
            Place::Host => Bed::Host {
                copy: copy.to_path_buf(),
                packages: host_tests(workshop, copy, mutants)?,
            },
            Place::Box => Bed::Box {
                workshop,
                module: workshop.build_project(&Project::driver(copy), "mutants-module-box", "")?,
                // The tree's own, unless there is a bug in them.
                programs: match in_programs {
                    true => workshop.programs_of(copy, "mutants")?,
                    false => workshop.programs()?,
                },
                executables: box_tests(workshop)?,
            },
        };
        let bench = Self { bed, numbers };
        bench.green(mutants)?;
        Ok(bench)
    }

    /// Every named test passes while no bug is on.
    fn green(&self, mutants: &[&Mutant]) -> Result<()> {
        let mut tests: Vec<_> = mutants.iter().map(|mutant| mutant.test()).collect();
        tests.sort_unstable();
        tests.dedup();
        for test in tests {
            let outcome = self.test(test, 0)?;
            ensure!(
                outcome == Outcome::Survived,
                "the test `{test}` is not green without a mutant ({outcome:?})"
            );
        }
        Ok(())
    }

    /// Runs the test of `mutant` with its bug on.
    pub(super) fn run(&self, mutant: &Mutant) -> Result<Outcome> {
        let number = self.numbers.get(&mutant.id).copied().unwrap_or(0);
        self.test(mutant.test(), number)
    }

    fn test(&self, test: &str, number: usize) -> Result<Outcome> {
        match &self.bed {
            Bed::Native { native, results } => in_kernel(native, results, test, number),
            Bed::Host { copy, packages } => {
                let (package, name) = test.split_once(' ').context("two words")?;
                let executables = packages.get(package).context("no such package")?;
                on_host(copy, executables, name.trim(), number)
            }
            Bed::Box {
                workshop,
                module,
                programs,
                executables,
            } => {
                let (file, name) = test.split_once(' ').context("two words")?;
                let executable = executables.get(file).context("no such file of tests")?;
                let mut artefacts = workshop.artefacts()?;
                artefacts.module = Some(module.clone());
                artefacts.programs.clone_from(programs);
                let run = || {
                    let mut command = limited(executable, BOX_LIMIT, name.trim(), number);
                    command
                        .arg("--test-threads=1")
                        .envs(artefacts.environment());
                    verdict(&mut command)
                };
                match run()? {
                    // A busy machine may keep a box from coming up.
                    Outcome::NoBox => run(),
                    outcome => Ok(outcome),
                }
            }
        }
    }
}

/// One boot: only the suite of the case runs.
fn in_kernel(native: &Native, results: &Path, test: &str, number: usize) -> Result<Outcome> {
    let (suite, case) = test.split_once('.').context("suite.case")?;
    let script = format!(
        "echo -n {suite} > /sys/module/kunit/parameters/filter_glob || fail filter\n\
         insmod /module.ko mutant={number} || fail insmod\n"
    );
    let log = Run {
        machine: &native.machine,
        results: results.to_path_buf(),
        name: "mutant",
        module: &native.module,
        script: &script,
        nic: None,
        arguments: "",
        limit: NATIVE_LIMIT,
    }
    .run()?;
    let suites = ktap::parse(&log);
    let cases = suites.get(suite).map_or(&[][..], |suite| &suite.cases);
    Ok(match cases.iter().find(|(name, _)| name == case) {
        Some((_, Verdict::Failed)) => Outcome::Caught,
        Some((_, Verdict::Passed)) => Outcome::Survived,
        _ => Outcome::Silent,
    })
}

/// The executable that has a test of this name says how it ended.
fn on_host(copy: &Path, executables: &[PathBuf], name: &str, number: usize) -> Result<Outcome> {
    for executable in executables {
        let mut command = limited(executable, HOST_LIMIT, name, number);
        let outcome = verdict(command.current_dir(copy))?;
        if outcome != Outcome::Silent {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Silent)
}

/// `timeout` ends the test with all that it has started.
fn limited(executable: &Path, seconds: u32, name: &str, number: usize) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("--signal=KILL")
        .arg(seconds.to_string())
        .arg(executable)
        .args(["--exact", name])
        .env(VARIABLE, number.to_string())
        .stdin(Stdio::null());
    command
}

fn verdict(command: &mut Command) -> Result<Outcome> {
    let output = command.output()?;
    Ok(Outcome::of(&String::from_utf8_lossy(&output.stdout)))
}

/// Builds the tests of the packages of `mutants` in the copy.
fn host_tests(
    workshop: &Workshop,
    copy: &Path,
    mutants: &[&Mutant],
) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let mut packages: Vec<_> = mutants
        .iter()
        .filter_map(|mutant| mutant.test().split_whitespace().next())
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let mut found = BTreeMap::new();
    for package in packages {
        let mut command = workshop.cargo()?;
        command
            .current_dir(copy)
            .env("CARGO_TARGET_DIR", workshop.products().join("mutants/host"))
            .args(["test", "--no-run", "--package", package]);
        let list = executables(&mut command)?
            .into_iter()
            .filter(|artifact| artifact.package_id.contains(package))
            .filter_map(|artifact| artifact.executable)
            .collect();
        found.insert(package.to_string(), list);
    }
    Ok(found)
}

/// Builds this crate's tests that start boxes, in the tree itself.
fn box_tests(workshop: &Workshop) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = workshop.cargo()?;
    command.args(["test", "--no-run", "--package", "dlr-testing", "--tests"]);
    Ok(executables(&mut command)?
        .into_iter()
        .filter_map(|artifact| Some((artifact.target.name, artifact.executable?)))
        .collect())
}

fn executables(command: &mut Command) -> Result<Vec<Artifact>> {
    let output = command
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the tests of the copy do not build"
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|artifact: &Artifact| artifact.executable.is_some())
        .collect())
}
