// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is kept of a box whose test has failed. All of it as far as it goes: the box may be
//! in any state.

use std::{fs, path::Path, time::Duration};

use serde_json::json;

use super::nic::Nic;
use crate::agent::Agent;

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
    ps axww -o pid,ppid,stat,wchan:32,time,args > /results/processes.txt; \
    for p in $(pidof qemu-system-x86_64); do \
        for t in /proc/$p/task/*; do echo $t $(cat $t/comm $t/wchan); cat $t/stack; done; \
    done > /results/threads.txt 2>&1";

/// Puts it beside the results.
pub(super) fn gather(agent: &Agent, nics: &[Nic], results: &Path) {
    for (number, nic) in nics.iter().enumerate() {
        if let Ok(stats) = nic.control(&json!({"cmd": "stats"})) {
            let path = results.join(format!("nic{number}.stats.json"));
            let _ = fs::write(path, format!("{stats:#}"));
        }
    }
    let _ = agent.run(&["sh", "-c", SCRIPT], &[], LIMIT);
}
