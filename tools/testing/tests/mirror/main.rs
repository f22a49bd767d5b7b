// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` on the NIC: no page is lost, and each rule of the log that the NIC breaks
//! makes it say which page was.

mod judge;
mod rules;
mod tool;

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig};
use serde_json::json;

use crate::{
    judge::number,
    rules::{expect_all_noticed, RULES, RULES_OF_A_FULL_RING},
    tool::{assert_nothing_lost, mirror, tool, ATTEMPTS},
};

/// Huge pages for two virtual machines of 32 MiB.
const HUGE_PAGES: u32 = 40;
/// A log ring of 16 entries overflows at every burst.
const SMALL_RING: &str = "log_ring_order=4";
fn start(parameters: &str) -> Result<(HostBox, Vec<String>)> {
    start_with(parameters, NicConfig::new(2))
}

fn start_with(parameters: &str, nic: NicConfig) -> Result<(HostBox, Vec<String>)> {
    let host = HostBox::start(BoxConfig::for_test().nic(nic).huge_pages(HUGE_PAGES))?;
    host.load_driver(parameters)?;
    let functions = host.bind_dlr(0)?;
    Ok((host, functions))
}

#[test]
fn mirror_loses_nothing_with_iommufd() -> Result<()> {
    let (host, functions) = start("")?;
    let answer = assert_nothing_lost(&host, &functions, "--backend iommufd --cycles 4")?;
    ensure!(answer["backend"] == "iommufd" && number(&answer, "all_dirty_rounds")? == 0);
    // Granules of 64 KiB, reported in pages of 4 KiB.
    assert_nothing_lost(&host, &functions, "--page-size 64K --cycles 2")?;
    // REPORTs that begin and end within such a granule.
    assert_nothing_lost(
        &host,
        &functions,
        "--page-size 64K --report-pages 37 --cycles 2",
    )?;
    // What only EVENT_IDX and a control queue make the function write, and entries of several pages.
    let options = "--features full --buffer-pages 3 --cycles 2";
    let answer = assert_nothing_lost(&host, &functions, options)?;
    ensure!(number(&answer["traffic"], "commands")? > 20, "{answer}");
    // The last interrupt of a source may not have reached its guest.
    assert_nothing_lost(&host, &functions, "--interrupt --cycles 2")?;
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
    cloud_hypervisor_calls(&host, &functions)?;
    host.finish()
}

/// What a Cloud Hypervisor calls to move a guest from `source` to `target`, in its order.
fn cloud_hypervisor_order(source: &str, target: &str) -> Vec<String> {
    [
        (source, "DMA_LOGGING_START"),
        (source, "SET STOP"),
        (source, "SET STOP_COPY"),
        (source, "SET STOP"),
        (target, "SET RESUMING"),
        (target, "SET RUNNING"),
        (source, "DMA_LOGGING_STOP"),
        (source, "SET RUNNING"),
    ]
    .map(|(function, call)| format!("{function}: {call}"))
    .to_vec()
}

/// The shape makes these calls and no others, there and back.
fn cloud_hypervisor_calls(host: &HostBox, functions: &[String]) -> Result<()> {
    let [one, two] = functions else {
        anyhow::bail!("two functions, and not {functions:?}");
    };
    let command = format!(
        "VFIO_MIG_LOG=debug vfio-mig mirror {one} {two} --shape cloud-hypervisor --cycles 2"
    );
    let done = host.try_run(&command, Duration::from_secs(240))?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.code == Some(0), "{}\n{said}", done.text());
    let calls: Vec<String> = said
        .lines()
        .filter(|line| line.contains(": SET ") || line.contains(": DMA_LOGGING_"))
        .filter_map(|line| Some(line.split_once("] ")?.1.to_owned()))
        .collect();
    let order = [
        cloud_hypervisor_order(one, two),
        cloud_hypervisor_order(two, one),
    ];
    ensure!(calls == order.concat(), "{calls:#?}");
    Ok(())
}

/// A NIC that cannot hold DMA back: its ring overflows, and it posts LOST.
fn nic_that_overflows() -> NicConfig {
    NicConfig::new(2).args(["--without", "hold"])
}

#[test]
fn mirror_loses_nothing_when_the_ring_overflows() -> Result<()> {
    let (host, functions) = start_with(SMALL_RING, nic_that_overflows())?;
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

/// What the log has no address bits for counts as dirty in each round, and the rest is reported as ever.
#[test]
fn mirror_loses_nothing_beyond_the_address_bits_of_the_log() -> Result<()> {
    let nic = NicConfig::new(2).args(["--iova-bits=32"]);
    let (host, functions) = start_with("", nic)?;
    // START cannot name the high region.
    let (code, answer) = mirror(&host, &functions, "")?;
    ensure!(code == 2 && answer["error"].is_string(), "{answer}");
    let options = "--late-ranges --page-size 64K --report-pages 37 --cycles 2";
    let answer = assert_nothing_lost(&host, &functions, options)?;
    let rounds = answer["migrations"][0]["rounds"].as_array();
    let high = (24 << 20) / 4096;
    for round in rounds.context("no rounds")? {
        let reported = number(round, "reported")?;
        ensure!((high..=high + 2048).contains(&reported), "{round}");
    }
    host.finish()
}

/// Field case 21: with the same ring and traffic a NIC that holds DMA back loses nothing of the log, so
/// that no round, and not the stopped one, has all memory to send.
#[test]
fn mirror_sees_no_overflow_while_dma_is_held_back() -> Result<()> {
    let (host, functions) = start(SMALL_RING)?;
    // The hold ends after 10 ms of the NIC's clock, in which a busy machine may not run the box at all. A
    // run in which that happened is not judged.
    for _ in 0..ATTEMPTS {
        let before = holds(&host)?;
        let answer = assert_nothing_lost(&host, &functions, "--backend iommufd --cycles 2")?;
        let after = holds(&host)?;
        ensure!(after.0 > before.0, "nothing was held back: {answer}");
        if after.1 > before.1 {
            continue;
        }
        ensure!(
            number(&answer, "all_dirty_rounds")? == 0,
            "the ring overflowed: {answer}"
        );
        return host.finish();
    }
    bail!("the time of a hold was up in each of {ATTEMPTS} runs")
}

/// How often all functions of the NIC were held back, and how often until the time was up.
fn holds(host: &HostBox) -> Result<(u64, u64)> {
    let stats = host.nic(0)?.control(&json!({"cmd": "stats"}))?;
    let functions = stats["functions"].as_array().context("no functions")?;
    functions.iter().try_fold((0, 0), |(all, over), function| {
        let log = &function["log"];
        Ok((
            all + number(log, "holds")?,
            over + number(log, "holds_over")?,
        ))
    })
}

#[test]
fn mirror_finds_each_broken_rule() -> Result<()> {
    let (host, functions) = start("")?;
    expect_all_noticed(&host, &functions, RULES)?;
    // What the last two looks at the log are like when the rules are kept.
    assert_nothing_lost(&host, &functions, "--late-ranges --features full")?;
    assert_nothing_lost(&host, &functions, "--reset")?;
    host.finish()
}

#[test]
fn mirror_finds_each_broken_rule_of_a_full_ring() -> Result<()> {
    // A NIC that holds DMA back overflows only when the drain is late: the rule would not be asked.
    let (host, functions) = start_with(SMALL_RING, nic_that_overflows())?;
    expect_all_noticed(&host, &functions, RULES_OF_A_FULL_RING)?;
    host.finish()
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
