// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each allocation of each operation fails once (review M5): the errno says so, nothing is lost,
//! and the device works on. What fails are allocations of the thread that makes the call (`fail-nth` in
//! `Documentation/fault-injection/fault-injection.rst` of Linux), those of vfio-pci-core included;
//! not those of other threads, such as the queue's worker and the threads of interrupts.

use std::collections::BTreeSet;

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::outcome, BoxConfig, NicConfig};
use serde_json::{json, Value};

use super::{
    bench::{Bench, TIMEOUT_MS},
    ends::session,
};

/// More allocations than any operation makes.
pub(super) const MANY: u32 = 400;
/// Pages that the log tracks.
const PAGES: u64 = 256;

/// An operation on function 0.
struct Operation {
    /// Where the function is before it.
    from: &'static str,
    /// With a log, in which a write waits.
    log: bool,
    /// With an image that was loaded as a whole.
    loaded: bool,
    call: Value,
}

fn operation(from: &'static str, log: bool, call: Value) -> Operation {
    Operation {
        from,
        log,
        loaded: false,
        call,
    }
}

fn set(from: &'static str, to: &str) -> Operation {
    operation(from, false, json!({"cmd": "set", "state": to}))
}

fn set_loaded(to: &str) -> Operation {
    Operation {
        loaded: true,
        ..set("RESUMING", to)
    }
}

/// All of them but opening and closing, which have a test of their own: each of the 15 arcs, each
/// call of a session and of a log, and reset.
fn operations() -> Vec<Operation> {
    let plain = |from, call| operation(from, false, call);
    vec![
        set("RUNNING", "RUNNING_P2P"),
        set("RUNNING_P2P", "STOP"),
        set("STOP", "RUNNING_P2P"),
        set("RUNNING_P2P", "RUNNING"),
        set("RUNNING", "PRE_COPY"),
        set("PRE_COPY", "PRE_COPY_P2P"),
        set("PRE_COPY_P2P", "STOP_COPY"),
        set("RUNNING_P2P", "PRE_COPY_P2P"),
        set("PRE_COPY_P2P", "RUNNING_P2P"),
        set("PRE_COPY_P2P", "PRE_COPY"),
        set("PRE_COPY", "RUNNING"),
        set("STOP", "STOP_COPY"),
        set("STOP_COPY", "STOP"),
        set("STOP", "RESUMING"),
        set_loaded("STOP"),
        plain("PRE_COPY", json!({"cmd": "size"})),
        plain("PRE_COPY", json!({"cmd": "precopy"})),
        plain("STOP_COPY", json!({"cmd": "read"})),
        plain("RESUMING", json!({"cmd": "write", "saved": "image"})),
        plain("RESUMING", json!({"cmd": "write", "hex": "00".repeat(64)})),
        plain("PRE_COPY", json!({"cmd": "reset"})),
        plain("RUNNING", json!({"cmd": "log-start", "ranges": ["0+1M"]})),
        operation("RUNNING", true, json!({"cmd": "log-stop"})),
        operation("RUNNING", true, json!({"cmd": "report", "range": "0+1M"})),
        operation("RUNNING", true, json!({"cmd": "report", "range": "4G+1M"})),
    ]
}

/// Whether `call` writes what is no stream.
fn is_garbage(call: &Value) -> bool {
    call["hex"].is_string()
}

/// What fails are allocations that may sleep, of slabs and of `1 << min_order` pages or more, but
/// for those of `__GFP_HIGHMEM`.
pub(super) fn allow_failures(bench: &Bench, min_order: u32) -> Result<()> {
    bench
        .host
        .run(&format!(
            "cd /sys/kernel/debug && for f in failslab fail_page_alloc; do \
             echo 0 > $f/verbose && echo N > $f/ignore-gfp-wait || exit 1; done; \
             echo {min_order} > fail_page_alloc/min-order"
        ))
        .map(drop)
}

/// Lets allocations of `__GFP_HIGHMEM` fail during `call`, or not. With an IOMMU the buffers of
/// sessions and rings are of such memory. So are pages of a user, and a page of a bitmap that
/// cannot be pinned would cost a REPORT its pages (`iova_bitmap_set()` of Linux 7.3). So they fail
/// only in calls without a buffer or bitmap of the user.
fn allow_highmem(bench: &Bench, call: &Value) -> Result<()> {
    let name = call["cmd"].as_str().context("no name")?;
    let ignored = if ["read", "write", "report"].contains(&name) {
        "Y"
    } else {
        "N"
    };
    let file = "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem";
    bench
        .host
        .run(&format!("echo {ignored} > {file}"))
        .map(drop)
}

/// Carries `call` out with its `nth` allocation failing. Returns its answer, how it ended, and whether it
/// made as many.
fn starve(bench: &mut Bench, call: &Value, nth: u32) -> Result<(Value, String, bool)> {
    let mut request = call.clone();
    request["fail_nth"] = json!(nth);
    let answer = bench.drives[0].ask(&request)?;
    let ended = outcome(&answer)?;
    let plenty = if is_garbage(call) { "EINVAL" } else { "OK" };
    ensure!([plenty, "ENOMEM"].contains(&ended.as_str()), "{answer}");
    let starved = answer["starved"].as_bool().context("no word of it")?;
    ensure!(starved || ended == plenty, "{answer}");
    Ok((answer, ended, starved))
}

/// The device is closed, and nothing is left over.
pub(super) fn finish_round(bench: &mut Bench) -> Result<()> {
    let status = bench.drives[0].ok(&json!({"cmd": "status"}))?;
    if status["open"] == true {
        bench.drives[0].close()?;
    }
    bench.forget(0)?;
    bench.check_clean()
}

/// One round: the `nth` allocation of the operation fails. Returns whether there were as many.
fn round(bench: &mut Bench, operation: &Operation, nth: u32) -> Result<bool> {
    let call = &operation.call;
    bench.drives[0].open()?;
    if operation.log {
        bench.start_log(0)?;
        let entry = json!({"cmd": "log-entry", "function": 0, "entry": {"write": 0x5000}});
        bench.nic(&entry)?;
    }
    bench.drives[0].go(operation.from)?;
    if operation.loaded {
        bench.drives[0].ok(&json!({"cmd": "write", "saved": "image"}))?;
    }
    let (answer, ended, starved) = starve(bench, call, nth)?;
    let name = call["cmd"].as_str().context("no name")?;
    match (name, ended.as_str()) {
        ("set", "ENOMEM") => {
            bench.expect_state(0, operation.from)?;
            bench.drives[0].ok(call)?;
        }
        ("set", _) => {
            let state = call["state"].as_str().context("no state")?;
            bench.expect_state(0, state)?;
        }
        ("report", ended) => {
            let tracked = call["range"] == "0+1M";
            let least = if tracked { 1 } else { PAGES };
            if ended == "OK" {
                let told = answer["dirty"].as_u64().context("no count")?;
                ensure!(told >= least, "{told} pages were told");
            } else {
                let again = bench.drives[0].ok(call)?;
                ensure!(again["dirty"].as_u64() >= Some(least), "then {again}");
            }
            // The log goes on, and says what is written from here on.
            let entry = json!({"cmd": "log-entry", "function": 0, "entry": {"write": 0x9000}});
            bench.nic(&entry)?;
            let later = bench.drives[0].ok(&json!({"cmd": "report", "range": "0+1M"}))?;
            ensure!(later["dirty"].as_u64() >= Some(1), "then {later}");
            let rest = bench.drives[0].ok(&json!({"cmd": "report", "range": "0+1M"}))?;
            ensure!(rest["dirty"] == 0, "then {rest}");
        }
        // A stream that has lost a part is over; the next session has all of it.
        ("read", "ENOMEM") => {
            bench.drives[0].go("RUNNING")?;
            bench.forget(0)?;
            bench.drives[0].go("STOP_COPY")?;
            let read = bench.drives[0].ok(call)?;
            ensure!(read["end"] == true, "{read}");
        }
        // The driver has ended the session on the device, which took memory, too.
        ("write", _) if is_garbage(call) => {
            let left = session(bench)?;
            ensure!(left == "none", "the device has a session: {left}");
            bench.reset(0, "RUNNING")?;
        }
        ("write", "ENOMEM") => {
            bench.reset(0, "RUNNING")?;
            bench.drives[0].go("RESUMING")?;
            bench.drives[0].ok(call)?;
            bench.drives[0].go("RUNNING")?;
        }
        ("write", _) => bench.drives[0].go("RUNNING")?,
        // What a clean-up does not end stays in the device: it has the reserves.
        ("log-stop", ended) => ensure!(ended == "OK", "LOG_STOP is {ended}"),
        (_, "ENOMEM") => bench.drives[0].ok(call).map(drop)?,
        _ => (),
    }
    if operation.loaded {
        bench.drives[0].go("RUNNING")?;
    }
    finish_round(bench)?;
    Ok(starved)
}

#[test]
fn m5_every_arc_is_starved() {
    let operations = operations();
    let arcs: BTreeSet<(&str, String)> = operations
        .iter()
        .filter(|o| o.call["cmd"] == "set")
        .map(|o| (o.from, o.call["state"].to_string()))
        .collect();
    assert_eq!(arcs.len(), 15, "{arcs:?}");
}

#[test]
fn m5_each_allocation_of_each_operation_fails() -> Result<()> {
    // Each page of a buffer is a round, and so is each command that reads a part of the state.
    let nic = NicConfig::new(2).args([
        format!("--cmd-timeout={TIMEOUT_MS}"),
        "--sriov-like".to_owned(),
        "--flow-table=16K".to_owned(),
    ]);
    let config = BoxConfig::for_test().nic(nic);
    let mut bench = Bench::with_parameters(config, "save_buffers=2 save_buffer_kib=16")?;
    allow_failures(&bench, 0)?;
    let mut all = 0;
    for operation in operations() {
        allow_highmem(&bench, &operation.call)?;
        let mut nth = 1;
        loop {
            let starved = round(&mut bench, &operation, nth)
                .with_context(|| format!("allocation {nth} of {}", operation.call))
                .with_context(|| format!("in {}", operation.from))?;
            if !starved {
                break;
            }
            nth += 1;
            ensure!(nth < MANY, "{} does not end", operation.call);
        }
        eprintln!("{}: {} of {}", operation.from, nth - 1, operation.call);
        all += nth - 1;
    }
    ensure!(all > 50, "{all} allocations failed in all");
    bench.check_works()?;
    bench.finish()
}
