// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is kept of a box whose test has failed. All of it as far as it goes: the box may be
//! in any state.

use std::{
    fs,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::nic::Nic;
use crate::{agent::Agent, e2e::blame};

/// How long the box may take to hand over its logs.
const LIMIT: Duration = Duration::from_secs(20);

/// Logs of all virtual machines, their last exits, what the driver shows, processes and where their threads wait.
const SCRIPT: &str = "\
    for vm in /run/vm/*/; do \
        name=$(basename $vm); \
        for f in serial qemu.log; do cp $vm$f /results/$name.$f; done; \
        tail -c 4000000 $vm/trace > /results/$name.trace; \
    done 2>/dev/null; \
    (cd /sys/kernel/debug/dlr_vfio_pci && head -n 50 */*) > /results/driver.txt 2>&1; \
    tail -n 2000 /sys/kernel/tracing/instances/kvm/trace > /results/kvm.trace 2>/dev/null; \
    tail -n 1000 /sys/kernel/tracing/instances/life/trace > /results/life.trace 2>/dev/null; \
    ps axww -o pid,ppid,stat,wchan:32,time,args > /results/processes.txt; \
    for p in $(pidof qemu-system-x86_64); do \
        for t in /proc/$p/task/*; do echo $t $(cat $t/comm $t/wchan); cat $t/stack; done; \
    done > /results/threads.txt 2>&1";

/// Lines of each log that are printed of a box that does not answer.
const LAST_LINES: usize = 40;

/// How long a QEMU may take to end that has closed the agent's channel.
const ENDING: Duration = Duration::from_secs(2);

/// Prints what a box said last that does not answer. Where tests run for others, this is all that is
/// seen of it. Returns whether the emulated processor killed it.
pub(super) fn last_words(results: &Path, qemu: &mut Child) -> bool {
    let end = Instant::now() + ENDING;
    let ended = loop {
        match qemu.try_wait() {
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            other => break other.ok().flatten(),
        }
    };
    match ended {
        Some(status) => eprintln!("the QEMU of the box ended: {status}"),
        None => eprintln!("the box does not answer"),
    }
    let mut killed = false;
    for name in ["qemu.log", "console.log"] {
        // A log that was not begun says nothing.
        let bytes = fs::read(results.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        for line in lines.into_iter().skip(skipped) {
            eprintln!("{name}: {line}");
        }
        if blame::box_was_killed(&text) {
            // The layer of the tests without guests knows a box to try again by this.
            eprintln!("{}", blame::EmulatorFault);
            killed = true;
        }
    }
    killed
}

/// Says so if a box has not come up because its kernel stood still: it is tried again, as one that the
/// emulated processor killed. QEMU and the NICs still run. Returns whether it was so.
pub(super) fn explain_boot(results: &Path, qemu: &mut Child, nics: &mut [Nic]) -> bool {
    let alive =
        matches!(qemu.try_wait(), Ok(None)) && nics.iter_mut().all(|nic| nic.check().is_ok());
    let read = |name: &str| fs::read(results.join(name)).unwrap_or_default();
    let (console, qemu) = (read("console.log"), read("qemu.log"));
    let (console, qemu) = (
        String::from_utf8_lossy(&console),
        String::from_utf8_lossy(&qemu),
    );
    let stood_still = alive && blame::boot_stood_still(&console, &qemu);
    if stood_still {
        eprintln!("{}", blame::EmulatorFault);
    }
    stood_still
}

/// Puts it beside the results; whether the box answered.
pub(super) fn gather(agent: &Agent, nics: &[Nic], results: &Path) -> bool {
    for (number, nic) in nics.iter().enumerate() {
        if let Ok(stats) = nic.control(&json!({"cmd": "stats"})) {
            let path = results.join(format!("nic{number}.stats.json"));
            let _ = fs::write(path, format!("{stats:#}"));
        }
    }
    agent.run(&["sh", "-c", SCRIPT], &[], LIMIT).is_ok()
}
