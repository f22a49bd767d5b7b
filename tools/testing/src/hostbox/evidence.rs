// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is kept of a box whose test has failed. All of it as far as it goes: the box may be
//! in any state.

use std::{
    fmt, fs,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::nic::Nic;
use crate::{agent::Agent, splat};

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
    (cd /sys/kernel/tracing/instances/kvm && echo 0 > tracing_on && tail -n 4000 trace && \
        echo 1 > tracing_on) > /results/kvm.trace 2>/dev/null; \
    ps axww -o pid,ppid,stat,wchan:32,time,args > /results/processes.txt; \
    for p in $(pidof qemu-system-x86_64); do \
        for t in /proc/$p/task/*; do echo $t $(cat $t/comm $t/wchan); cat $t/stack; done; \
    done > /results/threads.txt 2>&1";

/// Lines of each log that are printed of a box that does not answer.
const LAST_LINES: usize = 40;

/// How long a QEMU may take to end that has closed the agent's channel.
const ENDING: Duration = Duration::from_secs(2);

/// Prints what a box said last that does not answer. Where tests run for others, this is all that is
/// seen of it.
pub(super) fn last_words(results: &Path, qemu: &mut Child) {
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
    for name in ["qemu.log", "console.log"] {
        // A log that was not begun says nothing.
        let bytes = fs::read(results.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LAST_LINES);
        for line in lines.into_iter().skip(skipped) {
            eprintln!("{name}: {line}");
        }
    }
}

/// Marks the error of a box that is started once more: its kernel stood still while it booted.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoodStill;

impl fmt::Display for StoodStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel of the box stood still (Documentation/testing.rst)")
    }
}

/// Whether the kernel of a box that has not come up stood still, before any program ran and the driver was
/// there. QEMU and the NICs still run.
pub(super) fn stood_still(results: &Path, qemu: &mut Child, nics: &mut [Nic]) -> bool {
    let alive =
        matches!(qemu.try_wait(), Ok(None)) && nics.iter_mut().all(|nic| nic.check().is_ok());
    let read = |name: &str| fs::read(results.join(name)).unwrap_or_default();
    let (console, qemu) = (read("console.log"), read("qemu.log"));
    alive
        && boot_stood_still(
            &String::from_utf8_lossy(&console),
            &String::from_utf8_lossy(&qemu),
        )
}

/// Whether a kernel stood still while it booted, without a word of complaint, and nothing says that a NIC is
/// to blame: QEMU, which waits a minute for the answer of one and then says so, has only warned. `console` and
/// `qemu` are all that both said.
fn boot_stood_still(console: &str, qemu: &str) -> bool {
    console.contains("Linux version ")
        && !console.contains("Run /init as init process")
        && splat::complaints(console, &[]).is_empty()
        && qemu.lines().all(|line| line.contains(": warning: "))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_stands_still_is_known() {
        let console = "Linux version 7.3.4\npci 0000:01:00.0: [1af4:10f0] type 00\n\
            PCI: pci_cache_line_size set to 64 bytes\n";
        let warned = "qemu: -device vfio-user-pci: warning: Could not enable error recovery\n";
        assert!(boot_stood_still(console, ""));
        assert!(boot_stood_still(console, warned));
        let silent = format!("{warned}qemu: vfio-user: timed out waiting for reply\n");
        assert!(!boot_stood_still(console, &silent));
        let later = format!("{console}Run /init as init process\n");
        assert!(!boot_stood_still(&later, warned));
        let complained = format!("{console}WARNING: kernel/smp.c:1 at f+0x1/0x2, CPU#0: init/1\n");
        assert!(!boot_stood_still(&complained, warned));
        // A machine that did not get as far as Linux.
        assert!(!boot_stood_still("", ""));
    }
}
