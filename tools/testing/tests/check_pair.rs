// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig check --pair`: random walks, concurrency, files in other hands and streams on two
//! functions; and that a NIC that breaks a rule turns a named case red.

use std::time::{Duration, SystemTime};

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox};
use serde_json::{json, Value};

const LIMIT: Duration = Duration::from_secs(900);
/// The same walks in each run; `SEED` in the environment gives others.
const SEED: &str = "20261";

/// Cases of the groups that this file runs. The number changes with the cases of `vfio-mig check`.
const PASSED: u64 = 31;

/// Runs `vfio-mig check --json`: exit status and report.
fn check(host: &HostBox, functions: &[String], options: &str) -> Result<(i32, Value)> {
    let seed = std::env::var("SEED").unwrap_or_else(|_| SEED.to_owned());
    check_from(&seed, host, functions, options)
}

/// The same; `seed` decides the walks.
fn check_from(
    seed: &str,
    host: &HostBox,
    functions: &[String],
    options: &str,
) -> Result<(i32, Value)> {
    let (device, pair) = (&functions[0], &functions[1]);
    let command = format!("vfio-mig --json check {device} --pair {pair} --seed {seed} {options}");
    let output = host.try_run(&command, LIMIT)?;
    let code = output
        .code
        .with_context(|| format!("{command}: {}", output.ending()))?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{command} printed no JSON: {}", output.text()))?;
    Ok((code, report))
}

fn clock() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |time| time.as_secs()).to_string()
}

/// Identifier and text of each case that failed or could not be carried out.
fn bad(report: &Value) -> Vec<(String, String)> {
    let results = report["results"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    results
        .filter(|case| case["status"] == "fail" || case["status"] == "error")
        .map(|case| (text(&case["id"]), text(&case["text"])))
        .collect()
}

/// Prints how long each case took, for whoever looks for a slow one.
fn print_times(report: &Value) {
    for case in report["results"].as_array().into_iter().flatten() {
        let ms = case["ms"].as_f64().unwrap_or_default();
        eprintln!(
            "{:>9.0} ms {} {}: {}",
            ms, case["status"], case["id"], case["notes"]
        );
    }
}

#[test]
fn check_with_a_pair_passes_and_a_broken_nic_fails_by_name() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(2))?;
    host.load_driver("")?;
    let functions = host.bind_dlr(0)?;

    let (code, report) = check(
        &host,
        &functions,
        "--only walk,concurrency,file,pair --deadline 300",
    )?;
    print_times(&report);
    ensure!(code == 0, "check failed ({code}): {:?}", bad(&report));
    let counts = &report["counts"];
    ensure!(
        counts["passed"] == PASSED && counts["skipped"] == 0,
        "{counts}"
    );

    // Other walks each time, so that the same ones are not all that ever pass.
    let seed = clock();
    eprintln!("walks that the clock decides; the same again: SEED={seed}");
    let (code, report) = check_from(&seed, &host, &functions, "--only walk --deadline 300")?;
    print_times(&report);
    ensure!(code == 0, "SEED={seed}: {:?}", bad(&report));
    let ran = report["counts"]["passed"].as_u64();
    ensure!(ran > Some(0), "SEED={seed}: {}", report["counts"]);

    // A state that is damaged on its way out is not taken.
    host.nic(0)?.sabotage("state-bit-flip", 1)?;
    let (code, report) = check(&host, &functions, "--only S11.good-stream")?;
    let found = bad(&report);
    ensure!(
        code == 1 && found.iter().any(|(_, text)| text.contains("refused by")),
        "a flipped bit was not noticed ({code}): {found:?}"
    );
    host.nic(0)?.sabotage("state-bit-flip", 0)?;

    // A walk that deviates is shrunk to the one call that does.
    host.nic(0)?.control(
        &json!({"cmd": "fault", "opcode": "suspend", "action": {"status": 9}, "count": 1_000_000}),
    )?;
    let (code, report) = check(&host, &functions, "--only S5.walk-states")?;
    let found = bad(&report);
    ensure!(
        code == 1
            && found
                .iter()
                .any(|(_, text)| text.starts_with("[SET ") && !text.contains(", ")),
        "a failing SUSPEND was not found, or not shrunk ({code}): {found:?}"
    );
    host.nic(0)?.control(&json!({"cmd": "mend"}))?;
    let (code, report) = check(&host, &functions, "--only S5.walk-states,S11.good-stream")?;
    ensure!(code == 0, "mended, it still fails: {:?}", bad(&report));
    host.finish()
}
