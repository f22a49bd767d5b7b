// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs tests side by side, each in a process of its own: a box without guests waits most of its
//! time for deadlines, so that a second one costs little.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use serde_json::Value;

use super::{
    abreast,
    results::{count, NO_BACKTRACE},
    tally::Tally,
};
use crate::hostbox::STARTED_AGAIN;

/// A test program that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Name of its file in `tests/`.
    pub(super) name: String,
    path: PathBuf,
}

/// A test of such a program.
#[derive(Debug, Clone)]
struct Test {
    program: Program,
    name: String,
}

/// How a test ended.
struct Done {
    test: Test,
    output: String,
    good: bool,
    time: Duration,
}

/// The test programs among cargo's messages (`--message-format json`).
///
/// # Errors
///
/// A line is no JSON.
pub(super) fn programs(messages: &str) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        let is_test = message["target"]["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        let (name, path) = (&message["target"]["name"], &message["executable"]);
        if let (true, Some(name), Some(path)) = (is_test, name.as_str(), path.as_str()) {
            found.push(Program {
                name: name.to_owned(),
                path: path.into(),
            });
        }
    }
    Ok(found)
}

/// Which tests of the programs.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    /// All.
    All,
    /// Those whose name contains this.
    Named(&'a str),
    /// These, in this order. One that is in no program is a failure.
    These(&'a [&'a str]),
}

/// How the tests are to be started.
pub(super) struct Run<'a> {
    /// Their working folder, which is the package's, as `cargo test` has it.
    pub(super) folder: &'a Path,
    /// Variables.
    pub(super) environment: Vec<(&'static str, PathBuf)>,
    /// Which of them.
    pub(super) which: Which<'a>,
    /// Those that run by themselves after all others.
    pub(super) alone: &'a [&'a str],
    /// Where all that they print is kept.
    pub(super) log: &'a Path,
    /// How many at a time.
    pub(super) width: usize,
}

impl Run<'_> {
    /// Runs all tests of these programs, in this order, and counts how they end.
    ///
    /// # Errors
    ///
    /// A program cannot be started, or the log cannot be written.
    pub(super) fn all(&self, programs: &[Program], tally: &mut Tally) -> Result<()> {
        let mut tests = Vec::new();
        for program in programs {
            tests.extend(self.tests_of(program)?);
        }
        let tests = self.which.choose(tests, tally);
        let mut log = File::create(self.log)?;
        let (alone, together): (Vec<_>, Vec<_>) = tests
            .into_iter()
            .partition(|test| self.alone.contains(&test.name.as_str()));
        self.side_by_side(together, self.width, &mut log, tally)?;
        self.side_by_side(alone, 1, &mut log, tally)
    }

    fn side_by_side(
        &self,
        tests: Vec<Test>,
        width: usize,
        log: &mut File,
        tally: &mut Tally,
    ) -> Result<()> {
        abreast::each(
            tests,
            width,
            |test| self.one(&test),
            |_, done| {
                let done = done?;
                let text = report(&done);
                print!("{text}");
                log.write_all(text.as_bytes())?;
                tally.add(judge(&done));
                Ok(())
            },
        )
    }

    fn command(&self, program: &Program, arguments: &[&str]) -> Command {
        let mut command = Command::new(&program.path);
        command
            .args(arguments)
            .current_dir(self.folder)
            .envs(self.environment.iter().cloned())
            .env(NO_BACKTRACE.0, NO_BACKTRACE.1)
            .stdin(Stdio::null());
        command
    }

    fn tests_of(&self, program: &Program) -> Result<Vec<Test>> {
        let output = self
            .command(program, &["--list", "--format", "terse"])
            .output()
            .with_context(|| format!("{}", program.path.display()))?;
        if !output.status.success() {
            bail!("{} lists no tests", program.path.display());
        }
        Ok(listed(&String::from_utf8_lossy(&output.stdout))
            .map(|name| Test {
                program: program.clone(),
                name: name.to_owned(),
            })
            .collect())
    }

    fn one(&self, test: &Test) -> Result<Done> {
        let start = Instant::now();
        // Both streams into one file, in the order of what is said.
        let mut file = tempfile::tempfile()?;
        let status = self
            .command(&test.program, &["--exact", &test.name, "--test-threads=1"])
            .stdout(file.try_clone()?)
            .stderr(file.try_clone()?)
            .status()?;
        let mut output = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut output)?;
        Ok(Done {
            test: test.clone(),
            output: String::from_utf8_lossy(&output).into_owned(),
            good: status.success(),
            time: start.elapsed(),
        })
    }
}

impl Which<'_> {
    fn choose(self, tests: Vec<Test>, tally: &mut Tally) -> Vec<Test> {
        let names = match self {
            Self::All => return tests,
            Self::Named(part) => {
                let fits = |test: &Test| test.name.contains(part);
                return tests.into_iter().filter(fits).collect();
            }
            Self::These(names) => names,
        };
        let mut chosen = Vec::new();
        for name in names {
            match tests.iter().find(|test| test.name == *name) {
                Some(test) => chosen.push(test.clone()),
                None => tally.fail(format!("there is no test `{name}`")),
            }
        }
        chosen
    }
}

/// Names of tests in what `--list --format terse` prints.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_suffix(": test"))
}

/// What one process says about its one test.
fn judge(done: &Done) -> Tally {
    let name = format!("{}: {}", done.test.program.name, done.test.name);
    let mut counted = count(&done.output);
    let judged = counted.passed + counted.failed + counted.skipped;
    if judged != 1 || done.good != (counted.failed == 0) {
        // It was killed, or ended by itself in the middle.
        counted = Tally::default();
        counted.fail(format!("{name} did not come to its end"));
    } else if counted.failed > 0 {
        let file = &done.test.program.name;
        for failure in &mut counted.failures {
            *failure = format!("{file}: {failure}");
        }
    }
    counted
}

/// A line for a test, and all that it printed if it failed.
fn report(done: &Done) -> String {
    let tally = judge(done);
    let ending = match (tally.failed, tally.skipped) {
        (0, 0) => "ok",
        (0, _) => "ignored",
        _ => "FAILED",
    };
    let (file, name) = (&done.test.program.name, &done.test.name);
    let seconds = done.time.as_secs_f64();
    let again = if done.output.contains(STARTED_AGAIN) {
        format!(", {STARTED_AGAIN}")
    } else {
        String::new()
    };
    let mut text = format!("test {file}: {name} ... {ending} ({seconds:.1} s{again})\n");
    if tally.failed > 0 {
        text += &done.output;
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn done(output: &str, good: bool) -> Done {
        let program = Program {
            name: "file".into(),
            path: "/file-1".into(),
        };
        Done {
            test: Test {
                program,
                name: "a::b".into(),
            },
            output: output.into(),
            good,
            time: Duration::from_millis(1250),
        }
    }

    const GOOD: &str =
        "test a::b ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured\n";
    const BAD: &str =
        "test a::b ... FAILED\ntest result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured\n";

    #[test]
    fn test_programs_are_those_of_kind_test() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"dlr_testing","kind":["lib"]},"executable":"/lib-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"check","kind":["test"]},"executable":"/check-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let found = programs(messages).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "check");
        assert_eq!(found[0].path, Path::new("/check-1"));
    }

    #[test]
    fn a_chosen_test_that_does_not_exist_is_a_failure() {
        let test = |name: &str| Test {
            name: name.into(),
            ..done("", true).test
        };
        let choose = |which: Which<'_>| {
            let mut tally = Tally::default();
            let chosen = which.choose(vec![test("a"), test("ab"), test("c")], &mut tally);
            let names: Vec<_> = chosen.into_iter().map(|test| test.name).collect();
            (names.join(" "), tally.failed)
        };
        assert_eq!(choose(Which::All), ("a ab c".into(), 0));
        assert_eq!(choose(Which::Named("a")), ("a ab".into(), 0));
        assert_eq!(choose(Which::These(&["c", "a"])), ("c a".into(), 0));
        assert_eq!(choose(Which::These(&["c", "b"])), ("c".into(), 1));
    }

    #[test]
    fn names_come_from_the_list() {
        let names: Vec<_> = listed("a::b: test\nc: benchmark\nd: test\n\n").collect();
        assert_eq!(names, ["a::b", "d"]);
    }

    #[test]
    fn a_test_that_says_nothing_has_failed() {
        assert_eq!(judge(&done(GOOD, true)).passed, 1);
        let bad = judge(&done(BAD, false));
        assert_eq!(
            (bad.failed, bad.failures),
            (1, vec!["file: a::b".to_owned()])
        );
        // Killed; judged and then killed; the name fits no test; a status that is not its words'.
        for (output, good) in [("", false), (GOOD, false), ("", true), (BAD, true)] {
            let tally = judge(&done(output, good));
            assert_eq!((tally.passed, tally.failed), (0, 1), "{output} {good}");
        }
    }

    #[test]
    fn a_line_for_each_and_words_of_those_that_failed() {
        assert_eq!(
            report(&done(GOOD, true)),
            "test file: a::b ... ok (1.2 s)\n"
        );
        assert!(report(&done("why", false)).ends_with("FAILED (1.2 s)\nwhy"));
        let again = format!("{STARTED_AGAIN}: why\n{GOOD}");
        assert!(report(&done(&again, true)).ends_with("ok (1.2 s, a box is started again)\n"));
    }
}
