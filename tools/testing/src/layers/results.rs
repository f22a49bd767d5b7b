// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What cargo's test programs print.

use super::tally::Tally;

/// Variable for test programs: their errors say where they are from, and a stack for each hides it.
pub(super) const NO_BACKTRACE: (&str, &str) = ("RUST_LIB_BACKTRACE", "0");

/// Characters of an error that a summary has room for.
const LONGEST: usize = 600;

/// Sums the `test result:` lines and gathers the names of failed tests, each with its error and what
/// caused that.
pub(super) fn count(log: &str) -> Tally {
    let mut tally = Tally::default();
    let mut section: Option<Section<'_>> = None;
    for line in log.lines() {
        if let Some(begun) = Section::begin(line) {
            tell(&mut tally, section.replace(begun));
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            tell(&mut tally, section.take());
            for part in rest.split([';', '.']) {
                let mut words = part.split_whitespace();
                let number = words.next().and_then(|n| n.parse::<u32>().ok());
                match (number, words.next()) {
                    (Some(n), Some("passed")) => tally.passed += n,
                    (Some(n), Some("failed")) => tally.failed += n,
                    (Some(n), Some("ignored")) => tally.skipped += n,
                    _ => {}
                }
            }
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            tally.failures.push(name.trim_end().to_string());
        } else if line == "failures:" {
            // The list of their names.
            tell(&mut tally, section.take());
        } else if let Some(section) = &mut section {
            section.read(line);
        }
    }
    tell(&mut tally, section);
    tally
}

/// Puts the error of a section behind the name of its test.
fn tell(tally: &mut Tally, section: Option<Section<'_>>) {
    let Some(section) = section.filter(|section| !section.error.is_empty()) else {
        return;
    };
    let name = section.name;
    if let Some(failure) = tally.failures.iter_mut().find(|known| *known == name) {
        let error: String = section.error.chars().take(LONGEST).collect();
        *failure = format!("{name}: {error}");
    }
}

/// What is printed about a test that failed: libtest shows its output, which may end with `Error:`,
/// libtest-mimic the error alone.
struct Section<'a> {
    name: &'a str,
    /// Whether an error begins with `Error:`.
    marked: bool,
    /// Empty until it has begun.
    error: String,
    /// Number of the next cause; `None` before and after their list.
    cause: Option<u32>,
}

impl<'a> Section<'a> {
    /// If this line begins one.
    fn begin(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix("---- ")?;
        let (name, marked) = match rest.strip_suffix(" stdout ----") {
            Some(name) => (name, true),
            None => (rest.strip_suffix(" ----")?, false),
        };
        Some(Self {
            name,
            marked,
            error: String::new(),
            cause: None,
        })
    }

    fn read(&mut self, line: &str) {
        if self.error.is_empty() {
            let error = match line.strip_prefix("Error: ") {
                Some(error) => error,
                None if self.marked => return,
                None => line,
            };
            self.error = error.trim().to_owned();
        } else if line == "Caused by:" {
            self.cause = Some(0);
        } else if let Some(number) = self.cause {
            // Several are numbered. Of one with more lines only the first one is short.
            let numbered = line.strip_prefix(&format!("{number:>5}: "));
            let single = (number == 0).then(|| line.strip_prefix("    ")).flatten();
            if let Some(cause) = numbered.or(single) {
                // An error that was printed with its chain has them all.
                if !self.error.contains(cause.trim()) {
                    self.error = format!("{}: {}", self.error, cause.trim());
                }
                self.cause = Some(number + 1);
            } else if !line.is_empty() && !line.starts_with(' ') {
                self.cause = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_its_error_and_its_cause() {
        let log = "test a::b ... FAILED\ntest a::c ... FAILED\n\nfailures:\n\n\
                   ---- a::b stdout ----\nlogs are here: /x\nError: no guest\n\nCaused by:\n    why\n\
                   ---- a::c stdout ----\nthread panicked\n";
        assert_eq!(count(log).failures, ["a::b: no guest: why", "a::c"]);
    }

    #[test]
    fn results_of_all_binaries_are_summed() {
        let tally = count(
            "test a::b   ... ok\ntest a::c   ... FAILED\n\
             test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed, tally.failed, tally.skipped), (4, 1, 2));
        assert_eq!(tally.failures, ["a::c"]);
    }

    #[test]
    fn a_scenario_has_its_error_too() {
        let log = "test a::b ... FAILED\ntest a::c  ... FAILED\ntest a::d ... FAILED\n\nfailures:\n\n\
                   ---- a::b ----\nthe box of this group\n\nCaused by:\n    0: QEMU is gone\n       \
                   vm0: \"x\"\n    1: no answer\n\nStack backtrace:\n    2: main\n\n\
                   ---- a::c ----\nno end: it waits\nvm0: x\n\nCaused by:\n    it waits\n\n\
                   ---- a::d ----\ntest panicked: oh\n\n\nfailures:\n    a::b\n    a::c\n    a::d\n\n\
                   test result: FAILED. 0 passed; 3 failed; 0 ignored\n";
        let tally = count(log);
        assert_eq!(
            tally.failures,
            [
                "a::b: the box of this group: QEMU is gone: no answer",
                "a::c: no end: it waits",
                "a::d: test panicked: oh"
            ]
        );
        assert_eq!(tally.failed, 3);
    }

    #[test]
    fn a_long_error_is_cut() {
        let log = format!("test a ... FAILED\n---- a ----\n{}\n", "ä".repeat(2000));
        let length = count(&log).failures.first().map(|f| f.chars().count());
        assert_eq!(length, Some("a: ".len() + LONGEST));
    }
}
