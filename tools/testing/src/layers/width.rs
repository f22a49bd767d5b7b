// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How many boxes, or native kernels, run at a time.

use std::{fs, thread};

/// MiB of free memory that one more box at a time wants: its own and that of its QEMU and NIC.
const MEMORY_OF_A_BOX: u64 = 3072;

/// The same for a native kernel: `mem=` of its command line, and its NIC.
const MEMORY_OF_A_KERNEL: u64 = 1024;

/// More than this have not been tried.
const MOST: usize = 4;

/// How many boxes without guests there may be at a time. They wait for deadlines a good part of their
/// time, so that there may be half as many again as there are processors.
pub(super) fn boxes() -> usize {
    here(MEMORY_OF_A_BOX, |cpus| cpus + cpus / 2)
}

/// How many boxes there may be at a time whose kernels check themselves, which keeps the processors busy.
pub(super) fn debug_boxes() -> usize {
    here(MEMORY_OF_A_BOX, |cpus| cpus)
}

/// How many native kernels there may be at a time. Each keeps one processor busy.
pub(super) fn kernels() -> usize {
    here(MEMORY_OF_A_KERNEL, |cpus| cpus)
}

/// On this machine, now, if each wants so many MiB; `most` says how many so many processors can carry.
fn here(each: u64, most: fn(usize) -> usize) -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    width(most(cpus), available_mib(&meminfo), each)
}

fn width(most: usize, available_mib: u64, each: u64) -> usize {
    let by_memory = usize::try_from(available_mib / each).unwrap_or(MOST);
    most.min(by_memory).clamp(1, MOST)
}

/// `MemAvailable` of `/proc/meminfo`, in MiB.
fn available_mib(meminfo: &str) -> u64 {
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_at_a_time_as_there_is_room_for() {
        let boxes = |most, mib| width(most, mib, MEMORY_OF_A_BOX);
        assert_eq!(boxes(1, 64 << 10), 1);
        assert_eq!(boxes(2, 64 << 10), 2);
        assert_eq!(boxes(64, 64 << 10), MOST);
        assert_eq!(boxes(2, 5 << 10), 1);
        assert_eq!(boxes(2, 0), 1);
        assert_eq!(width(2, 5 << 10, MEMORY_OF_A_KERNEL), 2);
        assert_eq!(
            available_mib("MemTotal: 5 kB\nMemAvailable:    4194304 kB\n"),
            4096
        );
    }
}
