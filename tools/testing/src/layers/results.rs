// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What cargo's test programs print.

use super::tally::Tally;

/// Variable for test programs: their errors say where they are from, and a stack for each hides it.
pub(super) const NO_BACKTRACE: (&str, &str) = ("RUST_LIB_BACKTRACE", "0");

/// Sums the `test result:` lines and gathers the names of failed tests, each with the first line of
/// its error.
pub(super) fn count(log: &str) -> Tally {
    let mut tally = Tally::default();
    let mut section = None;
    for line in log.lines() {
        if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            section = Some(name);
        } else if let (Some(name), Some(error)) = (section, line.strip_prefix("Error: ")) {
            section = None;
            if let Some(failure) = tally.failures.iter_mut().find(|known| *known == name) {
                *failure = format!("{name}: {error}");
            }
        } else if let Some(rest) = line.strip_prefix("test result: ") {
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
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_first_line_of_its_error() {
        let log = "test a::b ... FAILED\ntest a::c ... FAILED\n\nfailures:\n\n\
                   ---- a::b stdout ----\nlogs are here: /x\nError: no guest\n\nCaused by:\n    why\n\
                   ---- a::c stdout ----\nthread panicked\n";
        assert_eq!(count(log).failures, ["a::b: no guest", "a::c"]);
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
}
