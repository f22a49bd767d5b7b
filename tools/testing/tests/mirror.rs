// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` on the NIC: no page is lost, and each rule of the log that the NIC breaks
//! makes it say which page was.

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox};
use serde_json::Value;

/// Huge pages for two virtual machines of 32 MiB.
const HUGE_PAGES: u32 = 40;
/// A log ring of 16 entries overflows at every burst.
const SMALL_RING: &str = "log_ring_order=4";
/// Times that a sabotage may hide from one migration: it has to show in one of so many.
const ATTEMPTS: u32 = 3;

fn start(parameters: &str) -> Result<(HostBox, Vec<String>)> {
    let host = HostBox::start(BoxConfig::for_test().functions(2).huge_pages(HUGE_PAGES))?;
    host.load_driver(parameters)?;
    let functions = host.bind_dlr(0)?;
    Ok((host, functions))
}

/// Runs `vfio-mig --json`: exit status and what it printed.
fn tool(host: &HostBox, arguments: &str) -> Result<(i32, Value)> {
    let output = host.try_run(
        &format!("vfio-mig --json {arguments}"),
        Duration::from_secs(240),
    )?;
    let code = output
        .code
        .with_context(|| format!("vfio-mig {arguments}: {}", output.ending()))?;
    let answer = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("vfio-mig {arguments} printed no JSON: {}", output.text()))?;
    Ok((code, answer))
}

fn mirror(host: &HostBox, functions: &[String], options: &str) -> Result<(i32, Value)> {
    tool(
        host,
        &format!("mirror {} {} {options}", functions[0], functions[1]),
    )
}

fn number(answer: &Value, field: &str) -> Result<u64> {
    answer[field]
        .as_u64()
        .with_context(|| format!("no number `{field}` in {answer}"))
}

fn assert_nothing_lost(host: &HostBox, functions: &[String], options: &str) -> Result<Value> {
    let (code, answer) = mirror(host, functions, options)?;
    ensure!(code == 0, "mirror {options} failed ({code}): {answer}");
    ensure!(answer["verdict"] == "PASS" && number(&answer, "lost_pages")? == 0);
    Ok(answer)
}

/// With the rule broken a lost page is named; with the rule kept none is, in the same box.
fn assert_sabotage_shows(parameters: &str, kind: &str, n: u64, options: &str) -> Result<()> {
    let (host, functions) = start(parameters)?;
    host.nic(0)?.sabotage(kind, n)?;
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let (code, answer) = mirror(&host, &functions, options)?;
        ensure!(code == 0 || code == 1, "mirror could not run: {answer}");
        if code == 1 {
            found = Some(answer);
            break;
        }
    }
    let answer = found.with_context(|| format!("{kind} was not noticed {ATTEMPTS} times"))?;
    let lost = &answer["migrations"][0]["lost"][0];
    ensure!(
        number(&answer, "lost_pages")? > 0 && number(lost, "iova")? >= 1 << 30,
        "no lost page is named: {answer}"
    );
    host.nic(0)?.sabotage(kind, 0)?;
    assert_nothing_lost(&host, &functions, "")?;
    host.finish()
}

#[test]
fn mirror_loses_nothing_with_iommufd() -> Result<()> {
    let (host, functions) = start("")?;
    let answer = assert_nothing_lost(&host, &functions, "--backend iommufd --cycles 4")?;
    ensure!(answer["backend"] == "iommufd" && number(&answer, "all_dirty_rounds")? == 0);
    host.finish()
}

#[test]
fn mirror_loses_nothing_with_a_legacy_container() -> Result<()> {
    let (host, functions) = start("")?;
    let answer = assert_nothing_lost(&host, &functions, "--backend legacy --cycles 4")?;
    ensure!(answer["backend"] == "legacy" && number(&answer, "all_dirty_rounds")? == 0);
    host.finish()
}

/// [46] in `Documentation/scenarios.rst`: the calls of a Cloud Hypervisor.
#[test]
fn mirror_loses_nothing_with_the_calls_of_a_cloud_hypervisor() -> Result<()> {
    let (host, functions) = start("")?;
    for backend in ["iommufd", "legacy"] {
        let options = format!("--shape cloud-hypervisor --backend {backend} --cycles 2");
        let answer = assert_nothing_lost(&host, &functions, &options)?;
        let migration = &answer["migrations"][0];
        ensure!(
            number(migration, "pre_copy_bytes")? == 0 && number(migration, "stop_copy_bytes")? > 0,
            "{answer}"
        );
    }
    host.finish()
}

#[test]
fn mirror_loses_nothing_when_the_ring_overflows() -> Result<()> {
    let (host, functions) = start(SMALL_RING)?;
    for backend in ["iommufd", "legacy"] {
        let options = format!("--backend {backend} --cycles 2");
        let answer = assert_nothing_lost(&host, &functions, &options)?;
        ensure!(
            number(&answer, "all_dirty_rounds")? > 0,
            "the ring did not overflow: {answer}"
        );
    }
    host.finish()
}

#[test]
fn mirror_finds_dropped_log_entries() -> Result<()> {
    assert_sabotage_shows("", "drop-log-entry", 10, "")
}

#[test]
fn mirror_finds_entries_posted_before_their_data() -> Result<()> {
    // The held-back data must land in a page of its own and after the copy: a small window
    // keeps the function from being busy with used rings only.
    let options = "--window 2 --rounds 40 --interval 50 --replies 1";
    assert_sabotage_shows("", "entry-before-data", 60, options)
}

#[test]
fn mirror_finds_a_filter_that_sync_does_not_clear() -> Result<()> {
    assert_sabotage_shows("", "filter-not-cleared", 1, "")
}

#[test]
fn mirror_finds_a_marker_that_comes_too_late_after_the_clearing() -> Result<()> {
    assert_sabotage_shows("", "marker-too-early", 60, "")
}

#[test]
fn mirror_finds_losses_that_are_not_announced() -> Result<()> {
    assert_sabotage_shows(SMALL_RING, "lost-not-posted", 1, "")
}

#[test]
fn mirror_finds_a_suspension_that_ends_too_early() -> Result<()> {
    assert_sabotage_shows("", "suspend-early", 50, "")
}

#[test]
fn a_saved_state_is_loaded_and_a_damaged_one_refused() -> Result<()> {
    let (host, functions) = start("")?;
    let (from, to) = (&functions[0], &functions[1]);
    let save = format!("save {from} /tmp/state");
    let load = format!("load {to} /tmp/state");
    let (code, saved) = tool(&host, &save)?;
    ensure!(code == 0, "{save}: {saved}");
    ensure!(
        number(&saved, "pre_copy_bytes")? > 0 && number(&saved, "stop_copy_bytes")? > 0,
        "{saved}"
    );
    let (code, loaded) = tool(&host, &load)?;
    ensure!(code == 0, "{load}: {loaded}");

    host.nic(0)?.sabotage("state-bit-flip", 1)?;
    let (code, saved) = tool(&host, &save)?;
    ensure!(code == 0, "{save} with a flipped bit: {saved}");
    let (code, refused) = tool(&host, &load)?;
    ensure!(
        code == 2 && refused["error"].is_string(),
        "{load} with a flipped bit was not refused: {refused}"
    );
    host.nic(0)?.sabotage("state-bit-flip", 0)?;

    // The driver does not let a stream end well that has no trailer.
    host.nic(0)?.sabotage("state-truncated", 1)?;
    let (code, refused) = tool(&host, &save)?;
    ensure!(
        code == 2 && refused["error"].is_string(),
        "{save} without a trailer did not fail: {refused}"
    );
    host.nic(0)?.sabotage("state-truncated", 0)?;

    // Both have survived it.
    for function in [from, to] {
        let (code, info) = tool(&host, &format!("info {function}"))?;
        ensure!(code == 0 && info["state"] == "RUNNING", "{info}");
    }
    host.finish()
}
