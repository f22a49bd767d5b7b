// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Finds complaints of the kernel in its log.

/// What only stands in the log when something is wrong with the kernel.
const COMPLAINTS: &[&str] = &[
    "WARNING:",
    "BUG:",
    "BUG at",
    "Oops:",
    "Kernel panic",
    "general protection fault",
    "------------[ cut here ]------------",
    "UBSAN:",
    "unreferenced object",
    "possible circular locking dependency",
    "possible recursive locking",
    "inconsistent lock state",
    "possible irq lock inversion",
    "suspicious RCU usage",
    "sleeping function called from invalid context",
    "scheduling while atomic",
    "blocked for more than",
    "soft lockup",
    "hard LOCKUP",
    "self-detected stall",
    "detected stalls on CPUs",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    // What SLUB says begins with "BUG" and the name of the cache.
    "Redzone overwritten",
    "Poison overwritten",
    "Object already free",
    "Freepointer corrupt",
    "bjects remaining",
    "DMAR: DRHD: handling fault",
    "[DMA Read",
    "[DMA Write",
    "bad page state",
    "leaked",
];

/// Lines of `log` that show a complaint, each with its number, unless they
/// contain one of `expected`.
pub fn complaints<'a>(log: &'a str, expected: &[String]) -> Vec<(usize, &'a str)> {
    log.lines()
        .enumerate()
        .filter(|(_, line)| COMPLAINTS.iter().any(|c| line.contains(c)))
        .filter(|(_, line)| !expected.iter().any(|e| line.contains(e.as_str())))
        .map(|(number, line)| (number + 1, line.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splats_are_found_and_ordinary_lines_are_not() {
        let log = "[    0.1] Linux version 7.3\n\
                   [    1.0] WARNING: CPU: 0 PID: 1 at drivers/vfio/x.c:1 f+0x1/0x2\n\
                   [    2.0] INFO: task qemu:12 blocked for more than 120 seconds.\n\
                   [    2.1] rcu: INFO: rcu_sched self-detected stall on CPU\n\
                   [    3.0] dlr_vfio_pci 0000:00:05.0: bound\n\
                   [    4.0] BUG kmalloc-64 (Tainted: G O): Right Redzone overwritten\n";
        let found = complaints(log, &[]);
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [2, 3, 4, 6]);
    }

    #[test]
    fn what_a_test_expects_is_let_through() {
        let log = "WARNING: from a KUnit test\nBUG: another";
        let found = complaints(log, &["from a KUnit test".into()]);
        assert_eq!(found, [(2, "BUG: another")]);
    }
}
