// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Tells a guest that the emulated processor has killed from one that lost memory. Pure.
//!
//! `Documentation/testing.rst` describes the bug: an injected interrupt is delivered a second
//! time with interrupts disabled. In the first instructions after an entry from user mode that is
//! fatal at once, with or without paravirtual EOI. The others: the kernel of the box dies of its own
//! breakpoint, and a guest is entered with the processor state of the box.

use std::fmt;

/// Marks an error of which the emulated processor is the cause, as a context.
#[derive(Clone, Copy, Debug)]
pub struct EmulatorFault;

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed by the emulated processor (Documentation/testing.rst)")
    }
}

/// Lets a kernel note each exit of a guest and each interrupt that goes into one, in a ring of its
/// own, which stands still when the guests do.
pub const NOTE_EXITS: &str = "\
    cd /sys/kernel/tracing/instances && mkdir -p kvm && cd kvm && echo 256 > buffer_size_kb && \
    for event in kvm_exit kvm_inj_virq; do echo 1 > events/kvm/$event/enable; done";

/// Prints what [`NOTE_EXITS`] has noted up to the last triple fault.
pub const SHOW_SHUTDOWN: &str =
    "grep -B 20 'reason shutdown' /sys/kernel/tracing/instances/kvm/trace || true";

/// Whether a guest ended with a triple fault in the very run into which KVM had put an interrupt,
/// before it got to acknowledge that one: the second delivery hit it on the entry stack, and so did
/// the faults that followed. `trace` is of [`NOTE_EXITS`].
pub fn died_of_an_interrupt(trace: &str) -> bool {
    let events: Vec<(&str, &str)> = trace
        .lines()
        .filter_map(|line| {
            let (task, rest) = line.split_once('[')?;
            let at = rest.find("kvm_exit: ").or(rest.find("kvm_inj_virq: "))?;
            Some((task.trim(), rest.get(at..)?))
        })
        .collect();
    events.iter().enumerate().any(|(n, (task, event))| {
        let shutdown = event.starts_with("kvm_exit: ") && event.contains(" reason shutdown ");
        let mut before = events.iter().take(n).rev().filter(|(t, _)| t == task);
        shutdown
            && before
                .next()
                .is_some_and(|(_, e)| e.starts_with("kvm_inj_virq: "))
    })
}

/// Whether a guest's console shows an interrupt that was taken with interrupts disabled, which
/// no content of memory can bring about: the kernel dies on the stack of its entry code, and in
/// the chain of interrupted places is the entry of an interrupt, with IF clear.
pub fn interrupt_came_twice(console: &str) -> bool {
    let mut lines = console.lines().peekable();
    let mut trampoline = false;
    while let Some(line) = lines.next() {
        trampoline |= line.contains("ENTRY_TRAMPOLINE");
        if !(trampoline && line.contains("RIP: 0010:asm_sysvec_")) {
            continue;
        }
        let flags = lines
            .clone()
            .take(3)
            .find_map(|l| l.split_once("EFLAGS: "))
            .and_then(|(_, flags)| u64::from_str_radix(flags.trim(), 16).ok());
        if flags.is_some_and(|flags| flags & 0x200 == 0) {
            return true;
        }
    }
    false
}

/// Whether the kernel of a box died of a breakpoint of its own. It patches a running program by
/// way of one, and an emulated processor may execute it after the kernel has taken it back.
pub fn breakpoint_was_stale(log: &str) -> bool {
    log.contains("Oops: int3: ")
}

/// Whether the log of a guest's QEMU shows that KVM gave the guest up when its page tables lay beyond
/// its memory, of which there are `memory_mib`: they were those of the box's own kernel, which no
/// guest can reach.
pub fn ran_on_foreign_page_tables(log: &str, memory_mib: u32) -> bool {
    let Some((_, dump)) = log.split_once("KVM internal error. Suberror: 3") else {
        return false;
    };
    let cr3 = dump.split_once(" CR3=").map(|(_, rest)| rest);
    let digits = cr3.and_then(|rest| rest.split_whitespace().next());
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .is_some_and(|cr3| cr3 >= u64::from(memory_mib) << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_page_tables_outside_of_the_guest_count() {
        let log = "KVM internal error. Suberror: 3\nextra data[0]: 0x0000000024c7dff8\n\
                   CR0=80050033 CR2=ffffffff8161354c CR3=0000000024c7d000 CR4=003516b0\n";
        assert!(ran_on_foreign_page_tables(log, 256));
        assert!(!ran_on_foreign_page_tables(log, 3072));
        assert!(!ran_on_foreign_page_tables(
            &log.replace("Suberror: 3", "Suberror: 1"),
            256
        ));
        assert!(!ran_on_foreign_page_tables("", 256));
    }

    /// Lines of a real trace, and a second guest.
    const TRACE: &str = "\
       CPU 0/KVM-65      [000] d..1.    18.798191: kvm_exit: vcpu 0 reason msr rip 0xffffffff810d2209 info1 0x1
       CPU 0/KVM-65      [000] .....    18.798881: kvm_inj_virq: IRQ 0xec
       CPU 0/KVM-77      [001] d..1.    18.798976: kvm_exit: vcpu 0 reason msr rip 0xffffffff810d7c79 info1 0x1
       CPU 0/KVM-65      [000] d..1.    18.800564: kvm_exit: vcpu 0 reason shutdown rip 0xffffffff810d0261 info1 0x0
";

    #[test]
    fn only_a_triple_fault_behind_an_interrupt_counts() {
        assert!(died_of_an_interrupt(TRACE));
        // It had acknowledged the interrupt.
        assert!(!died_of_an_interrupt(&TRACE.replace("KVM-77", "KVM-65")));
        assert!(!died_of_an_interrupt(&TRACE.replace("shutdown", "hlt")));
        // Another guest's.
        let moved = TRACE.replacen("KVM-65      [000] .....", "KVM-77      [000] .....", 1);
        assert!(!died_of_an_interrupt(&moved));
        assert!(!died_of_an_interrupt(""));
    }

    const CONSOLE: &str = "\
BUG: ENTRY_TRAMPOLINE stack guard page was hit at fffffe0000001ff8
 asm_sysvec_apic_timer_interrupt+0x1a/0x20
RIP: 0010:asm_sysvec_apic_timer_interrupt+0x0/0x20
Code: 76 8d
RSP: 0000:fffffe0000002fd8 EFLAGS: 00010012
";

    #[test]
    fn only_an_interrupt_with_interrupts_off_counts() {
        assert!(interrupt_came_twice(CONSOLE));
        assert!(!interrupt_came_twice(
            &CONSOLE.replace("00010012", "00010212")
        ));
        assert!(!interrupt_came_twice(
            &CONSOLE.replace("ENTRY_TRAMPOLINE", "TASK")
        ));
        assert!(!interrupt_came_twice("Kernel panic - not syncing: Oops"));
        assert!(breakpoint_was_stale("Oops: int3: 0000 [#1] SMP"));
        assert!(!breakpoint_was_stale("Oops: 0000 [#1] SMP"));
    }
}
