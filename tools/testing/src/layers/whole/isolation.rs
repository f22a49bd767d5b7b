// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The user of one function makes random calls, wrong ones among them, and writes rubbish to its
//! registers as a guest can, while a guest of the same NIC is migrated between two others: its log, its
//! states and its traffic must not suffer.

use anyhow::{ensure, Result};
use serde_json::Value;

use super::script::{load, quiet, run, UNLOAD};
use crate::{native::Bed, NicConfig};

/// Migrations, and those on a NIC that loses entries of its log.
const CYCLES: u32 = 16;
const CYCLES_BROKEN: u32 = 1;

/// Episodes of random calls, 64 each, that have to begin during the migrations.
const EPISODES: u64 = 8;

/// Starts the calls on the third function, migrates when the first of them are made, and ends them. The
/// kernel prints nothing between the lines of reports that are read from files at the end.
fn script(cycles: u32) -> String {
    let migrate = format!(
        "vfio-mig --json mirror 0000:00:01.0 0000:00:02.0 --cycles {cycles} --rounds 4 --interval 20"
    );
    let text = "\
mount -t tmpfs none /shared || fail tmpfs
: > /shared/fuzz.log
VFIO_MIG_LOG=warn,vfio_mig::cmd::fuzz=debug vfio-mig --json fuzz 0000:00:03.0 --registers \
    --seed 206 --steps 1000000 > /shared/fuzz.json 2>> /shared/fuzz.log &
fuzz=$!
episodes() { awk '/ step [0-9]+: [A-Z]/ { n++ } END { print n + 0 }' /shared/fuzz.log; }
until [ $(episodes) -gt 0 ]; do
    kill -0 $fuzz || { fail fuzz did not begin; break; }
    sleep 0.1
done
before=$(episodes)
MIGRATE > /shared/mirror.json
echo bed: $(($(episodes) - before)) episodes meanwhile
kill $fuzz || fail fuzz has ended by itself
wait $fuzz || fail fuzz
cat /shared/mirror.json /shared/fuzz.json
";
    [&load(3), &text.replace("MIGRATE", &migrate), UNLOAD].concat()
}

/// What a run has shown.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Verdict of `mirror`.
    verdict: String,
    migrations: u64,
    lost_pages: u64,
    /// Episodes that began during the migrations.
    episodes: u64,
    /// There is a report of the calls, and none was answered in another way than the uAPI says.
    calls_right: bool,
}

/// The migrations are good and so are the answers to the calls.
///
/// # Errors
///
/// They are not, or the run could not be begun.
pub(super) fn good(bed: &Bed, name: &str) -> Result<()> {
    let log = run(bed, name, config(), &script(CYCLES))?;
    quiet(bed, name, &log)?;
    let seen = seen(&log);
    ensure!(
        seen.verdict == "PASS"
            && seen.migrations == u64::from(CYCLES)
            && seen.lost_pages == 0
            && seen.calls_right,
        "{seen:?} (logs are here: {})",
        bed.results.join(name).display()
    );
    ensure!(
        seen.episodes >= EPISODES,
        "too few calls during the migrations: {seen:?}"
    );
    Ok(())
}

/// A NIC that loses entries of its log: the same comparison has to find a page.
///
/// # Errors
///
/// It does not, or the run could not be begun.
pub(super) fn broken(bed: &Bed, name: &str) -> Result<()> {
    let config = config().args(["--sabotage=drop-log-entry=5"]);
    let seen = seen(&run(bed, name, config, &script(CYCLES_BROKEN))?);
    ensure!(
        seen.verdict == "FAIL" && seen.lost_pages > 0 && seen.episodes > 0,
        "no page is missed: {seen:?}"
    );
    Ok(())
}

/// A small state: saving and loading it is what takes the calls longest.
fn config() -> NicConfig {
    NicConfig::new(3).args(["--flow-table=16K"])
}

/// Reads the log of a run.
fn seen(log: &str) -> Seen {
    let mut seen = Seen::default();
    for line in log.lines().map(str::trim) {
        let episodes = line
            .strip_prefix("bed: ")
            .and_then(|rest| rest.strip_suffix(" episodes meanwhile"));
        if let Some(number) = episodes.and_then(|number| number.parse().ok()) {
            seen.episodes = number;
        }
        let Ok(report) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if let Some(verdict) = report["verdict"].as_str() {
            seen.verdict = verdict.into();
            seen.migrations = report["migrations"].as_array().map_or(0, Vec::len) as u64;
            seen.lost_pages = report["lost_pages"].as_u64().unwrap_or_default();
        } else if report["episodes"].is_object() {
            seen.calls_right = report["difference"].is_null();
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = r#"{"verdict":"PASS","lost_pages":0,"migrations":[{},{}]}"#;
    const FUZZ: &str = r#"{"seed":206,"episodes":{"calls":3},"difference":null}"#;

    #[test]
    fn both_reports_are_needed_and_judged() {
        let read = |mirror: &str, fuzz: &str| {
            seen(&format!(
                "[ 0.1] x\r\nbed: 17 episodes meanwhile\r\n{mirror}\r\n{fuzz}\r\nbed: end\r\n"
            ))
        };
        let good = Seen {
            verdict: "PASS".into(),
            migrations: 2,
            lost_pages: 0,
            episodes: 17,
            calls_right: true,
        };
        assert_eq!(read(MIRROR, FUZZ), good);
        assert!(!read(MIRROR, "").calls_right);
        assert!(!read(MIRROR, &FUZZ.replace("null", "{}")).calls_right);
        assert_eq!(read("", FUZZ).verdict, "");
        let lossy = MIRROR.replace("PASS", "FAIL").replace(":0,", ":3,");
        assert_eq!(read(&lossy, FUZZ).lost_pages, 3);
    }

    #[test]
    fn the_calls_begin_before_the_migrations_and_end_after_them() {
        let text = script(4);
        let at = |words| text.find(words).unwrap_or(usize::MAX);
        let places = [" fuzz 0", "before=", " mirror 0", "kill $fuzz ||", "rmmod"].map(at);
        assert!(places.is_sorted() && places[4] < usize::MAX, "{places:?}");
        assert!(text.contains("mirror 0000:00:01.0 0000:00:02.0 --cycles 4"));
    }
}
