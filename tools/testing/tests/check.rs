// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig check` on a data function (all is well), on the kernel's `mtty` sample (its known
//! deviations and no others), on a function of plain vfio-pci (nothing to check), and on a NIC that
//! is broken on purpose (it is noticed).

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig};
use serde_json::Value;

const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1002";
/// A second one for `--pair`.
const PAIR: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1003";
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vfio-mig/expected/mtty.txt");
const LIMIT: Duration = Duration::from_secs(900);

/// Runs `check` and demands an exit code; the report.
fn check(host: &HostBox, arguments: &str, code: i32) -> Result<Value> {
    let done = host.try_run(
        &format!("vfio-mig check --json --seed 1 {arguments}"),
        LIMIT,
    )?;
    let (report, errors) = (done.text(), String::from_utf8_lossy(&done.stderr));
    ensure!(
        done.code == Some(code),
        "check {arguments}: exit code {:?}, not {code}\n{report}\n{errors}",
        done.code
    );
    serde_json::from_str(&report).with_context(|| format!("not JSON: {report}"))
}

/// Cases of a report that ended in one way.
fn cases<'a>(report: &'a Value, status: &str) -> Vec<&'a Value> {
    let all = report["results"].as_array().into_iter().flatten();
    all.filter(|case| case["status"] == status).collect()
}

/// Cases that pass on our device, without the groups of `check_pair.rs`. The number changes with the cases
/// of `vfio-mig check`.
const PASSED: u64 = 153;

/// Cases for devices that have less than ours.
const NOT_HERE: [&str; 2] = ["F4.v2-needs-pre-copy", "S2.not-advertised"];

/// State of the device as debugfs tells it, which opens nothing.
fn state(host: &HostBox, address: &str) -> Result<String> {
    let state = host.run(&format!(
        "cat /sys/kernel/debug/vfio/{address}/migration/state"
    ))?;
    Ok(state.trim().to_owned())
}

#[test]
fn data_functions_pass_mtty_deviates_and_vfio_pci_has_nothing() -> Result<()> {
    let host = HostBox::start(
        BoxConfig::for_test()
            .functions(2)
            .file("mtty.txt", EXPECTED),
    )?;
    let functions = host.bind_dlr(0)?;
    for backend in ["legacy", "iommufd"] {
        // `check_pair.rs` has these groups: walks take their time.
        let groups = "--exclude walk,concurrency,file";
        let arguments = format!("--backend {backend} {groups} {}", functions[0]);
        let report = check(&host, &arguments, 0)?;
        ensure!(report["counts"]["passed"] == PASSED, "{}", report["counts"]);
        for case in cases(&report, "skip") {
            let id = case["id"].as_str().unwrap_or_default();
            let pair = case["text"]
                .as_str()
                .is_some_and(|why| why.contains("--pair"));
            ensure!(
                pair || NOT_HERE.contains(&id),
                "{id} was skipped: {}",
                case["text"]
            );
        }
        let left = state(&host, &functions[0])?;
        ensure!(left == "RUNNING", "left in {left}");
    }
    notices_a_broken_device(&host, &functions[0])?;
    let management = host.addresses(0)?.remove(0);
    host.run(&format!(
        "echo {management} > /sys/bus/pci/devices/{management}/driver/unbind"
    ))?;
    let closed = state(&host, &functions[0])?;
    ensure!(
        closed == "RUNNING",
        "without a management function: {closed}"
    );

    host.bind(&functions[1], "vfio-pci")?;
    let report = check(&host, &functions[1], 0)?;
    let counts = &report["counts"];
    ensure!(
        counts["passed"] == 0 && counts["skipped"].as_u64() > Some(140),
        "{counts}"
    );

    host.run(&format!(
        "for m in mdev mtty; do [ ! -e /dlr/modules/$m.ko ] || insmod /dlr/modules/$m.ko; done; \
         for uuid in {UUID} {PAIR}; do \
             echo $uuid > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create; \
         done"
    ))?;
    for backend in ["legacy", "iommufd"] {
        let groups = if backend == "legacy" {
            "--exclude walk,concurrency,file"
        } else {
            ""
        };
        let known =
            format!("--backend {backend} {groups} --expect /dlr/mtty.txt {UUID} --pair {PAIR}");
        let report = check(&host, &known, 0)?;
        ensure!(
            report["counts"]["known"].as_u64() > Some(10),
            "{}",
            report["counts"]
        );
    }
    // Without the list they count, and one that does not show counts, too.
    check(&host, &format!("--only L7.start-twice {UUID}"), 1)?;
    host.write_file("/tmp/wrong", "F1.header # it passes\n")?;
    check(
        &host,
        &format!("--only F1.header --expect /tmp/wrong {UUID}"),
        1,
    )?;
    host.finish()
}

/// Functions that offer less: the same rules hold for what is left, and nothing else is left out.
#[test]
fn functions_without_some_abilities_pass() -> Result<()> {
    let nic = NicConfig::new(4).args([
        "--without=p2p@0",
        "--without=precopy@1",
        "--without=p2p@2",
        "--without=precopy@2",
        "--without=log@3",
    ]);
    let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
    let functions = host.bind_dlr(0)?;
    let (p2p, pre_copy, log) = ("no P2P states", "no pre-copy states", "no DMA logging");
    let lacks: [(&[&str], _); 4] = [
        (&[p2p], "feature,states"),
        (&[pre_copy], "feature,states"),
        (&[p2p, pre_copy], "feature,states,S5.walk-states"),
        (&[log], "feature,logging"),
    ];
    for (address, (lacks, groups)) in functions.iter().zip(lacks) {
        let report = check(&host, &format!("--only {groups} {address}"), 0)?;
        let ran = report["counts"]["passed"].as_u64();
        ensure!(ran > Some(9), "without {lacks:?}: {}", report["counts"]);
        for case in cases(&report, "skip") {
            let why = case["text"].as_str().unwrap_or_default();
            let expected = lacks.iter().any(|lack| why.contains(lack));
            ensure!(
                expected || case["id"] == "F4.v2-needs-pre-copy",
                "without {lacks:?}: {} was skipped: {why}",
                case["id"]
            );
        }
    }
    host.finish()
}

/// With the NIC broken on purpose, deviations are found; mended, they are gone.
fn notices_a_broken_device(host: &HostBox, address: &str) -> Result<()> {
    for (kind, only) in [
        ("state-truncated", "D8.end-of-stream"),
        ("state-bit-flip", "S1.resuming-to-running"),
    ] {
        host.nic(0)?.sabotage(kind, 1)?;
        let report = check(host, &format!("--only {only} {address}"), 1)?;
        ensure!(cases(&report, "fail").len() == 1, "{kind}: {report}");
        host.nic(0)?.sabotage(kind, 0)?;
        check(host, &format!("--only {only} {address}"), 0)?;
    }
    Ok(())
}
