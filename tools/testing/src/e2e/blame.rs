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

/// Prints what [`NOTE_EXITS`] has noted of the guests that ended with a triple fault, and where the
/// entry code of the box's kernel is, which that of the guests usually is too.
pub const SHOW_SHUTDOWN: &str = "\
    cd /sys/kernel/tracing/instances/kvm; \
    if grep -q 'reason shutdown' trace; then \
        grep -E ' __entry_text_(start|end)$' /proc/kallsyms; tail -n 4000 trace; \
    fi";

/// So many exits of a guest show that it got on: one whose memory was lost on its way would not.
const EXITS_OF_A_LIFE: usize = 500;

/// Whether a guest ended with a triple fault in the very run into which KVM had put an interrupt,
/// before it got to acknowledge that one, and in its entry code: the second delivery hit it on the
/// entry stack, and so did the faults that followed. `said` is what [`SHOW_SHUTDOWN`] prints.
pub fn died_of_an_interrupt(said: &str) -> bool {
    let entry = |name: &str| {
        let line = said.lines().find(|line| line.ends_with(name))?;
        u64::from_str_radix(line.split_whitespace().next()?, 16).ok()
    };
    let (Some(start), Some(end)) = (entry(" __entry_text_start"), entry(" __entry_text_end"))
    else {
        return false;
    };
    let events = events(said);
    events.iter().enumerate().any(|(n, (task, event))| {
        let in_entry_code = event.contains(" reason shutdown ")
            && field(event, "rip 0x").is_some_and(|rip| (start..end).contains(&rip));
        let before = || events.iter().take(n).rev().filter(|(t, _)| t == task);
        let injected = |event: &str| event.starts_with("kvm_inj_virq: ");
        in_entry_code
            && before().next().is_some_and(|(_, last)| injected(last))
            && before().filter(|(_, e)| !injected(e)).count() >= EXITS_OF_A_LIFE
    })
}

/// Whether a guest ended with a triple fault before it had executed anything since KVM entered it: the
/// very instruction that had been executing until the exit before could not be fetched any more, its
/// page being absent. With the page tables of the box's kernel, which lie within what the guest takes
/// for its memory, that is what happens; see [`ran_on_foreign_page_tables`] for when they do not.
pub fn could_not_go_on(said: &str) -> bool {
    let events = events(said);
    events.iter().enumerate().any(|(n, (task, event))| {
        let before = || events.iter().take(n).rev().filter(|(t, _)| t == task);
        let last = before().next().and_then(|(_, last)| field(last, "rip 0x"));
        // A page fault (vector 14) with an error code: of a fetch, not present.
        event.contains(" reason shutdown ")
            && field(event, "intr_info 0x") == Some(0x8000_0b0e)
            && field(event, "error_code 0x").is_some_and(|code| code & 0x11 == 0x10)
            && last.is_some()
            && last == field(event, "rip 0x")
            && before().count() >= EXITS_OF_A_LIFE
    })
}

/// Task and text of each trace event.
fn events(said: &str) -> Vec<(&str, &str)> {
    said.lines()
        .filter_map(|line| {
            let (task, rest) = line.split_once('[')?;
            let at = rest.find("kvm_exit: ").or(rest.find("kvm_inj_virq: "))?;
            Some((task.trim(), rest.get(at..)?))
        })
        .collect()
}

/// A hexadecimal number behind `name`.
fn field(event: &str, name: &str) -> Option<u64> {
    let (_, rest) = event.split_once(name)?;
    u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
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
/// way of one, and an emulated processor may execute it after the kernel has taken it back. Not that
/// of a module, let alone of one that is gone: its memory is filled with breakpoints.
pub fn breakpoint_was_stale(log: &str) -> bool {
    let Some((_, oops)) = log.split_once("Oops: int3: ") else {
        return false;
    };
    let oops = oops.split("---[ end trace").next().unwrap_or(oops);
    let at = oops.split_once("RIP: 0010:").map_or("", |(_, rest)| rest);
    let symbol = at.lines().next().unwrap_or("");
    symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !symbol.contains('[')
        && !oops.contains("[dlr_vfio_pci]")
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

    /// A guest's end in the words of KVM's trace events, put together: nobody had noted the real one.
    fn trace(exits: usize, last: &str, rip: &str) -> String {
        let exit = "       CPU 0/KVM-65      [000] d..1.    18.7: kvm_exit: vcpu 0 reason msr rip \
                    0xffffffff810d2209 info1 0x1\n";
        format!(
            "ffffffff81000000 T __entry_text_start\nffffffff81001183 T __entry_text_end\n{}\
                    CPU 0/KVM-65      [000] .....    18.8: kvm_inj_virq: IRQ 0xec\n\
                    CPU 0/KVM-{last}      [001] d..1.    18.9: kvm_exit: vcpu 0 reason msr rip 0x1 info1 0x1\n\
                    CPU 0/KVM-65      [000] d..1.    19.0: kvm_exit: vcpu 0 reason shutdown rip {rip} info1 0x0\n",
            exit.repeat(exits)
        )
    }

    #[test]
    fn only_a_triple_fault_behind_an_interrupt_counts() {
        let entry = "0xffffffff81000db9";
        assert!(died_of_an_interrupt(&trace(500, "77", entry)));
        // It had acknowledged the interrupt.
        assert!(!died_of_an_interrupt(&trace(500, "65", entry)));
        // It had just come.
        assert!(!died_of_an_interrupt(&trace(499, "77", entry)));
        // A reboot by triple fault.
        assert!(!died_of_an_interrupt(&trace(
            500,
            "77",
            "0xffffffff810d0261"
        )));
        let other = trace(500, "77", entry).replace("__entry_text_end", "somewhere");
        assert!(!died_of_an_interrupt(&other));
        assert!(!died_of_an_interrupt(""));
    }

    /// The last lines of a guest that died in its source, in pre-copy, and others before.
    fn stuck(exits: usize) -> String {
        let exit = |reason: &str, rip: &str, info: &str| {
            format!(
                "       CPU 0/KVM-150     [000] d..1.    34.523668: kvm_exit: vcpu 0 reason {reason} \
                 rip 0x{rip} info1 0x0000000000000000 info2 0x0000000000000000 {info} requests 0x0\n"
            )
        };
        let quiet = "intr_info 0x00000000 error_code 0x00000000";
        exit("npf", "ffffffff81623c7f", quiet).repeat(exits - 1)
            + &exit("npf", "ffffffff814e0ab6", quiet)
            + &exit(
                "shutdown",
                "ffffffff814e0ab6",
                "intr_info 0x80000b0e error_code 0x00000010",
            )
    }

    #[test]
    fn only_a_fetch_that_had_just_worked_counts() {
        let said = stuck(500);
        assert!(could_not_go_on(&said));
        assert!(!could_not_go_on(&stuck(499)));
        // It had gone on; a write; an interrupt.
        assert!(!could_not_go_on(&said.replacen("814e0ab6", "814e0aba", 1)));
        assert!(!could_not_go_on(&said.replace("0x00000010", "0x00000002")));
        assert!(!could_not_go_on(&said.replace("80000b0e", "800000ec")));
        assert!(!could_not_go_on(&said.replace("shutdown", "hlt")));
    }

    const OOPS: &str = "\
Oops: int3: 0000 [#1] SMP
RIP: 0010:__apic_accept_irq+0x41/0x350
 kvm_apic_set_irq+0x1c/0x30
---[ end trace 0000000000000000 ]---
";

    #[test]
    fn only_a_breakpoint_of_the_kernel_itself_counts() {
        assert!(breakpoint_was_stale(OOPS));
        assert!(!breakpoint_was_stale(&OOPS.replace("int3: ", "")));
        // Unloaded, still there, and on its way.
        for rip in ["0xffffffffc0001234", "f+0x1/0x2 [dlr_vfio_pci]"] {
            assert!(!breakpoint_was_stale(
                &OOPS.replace("__apic_accept_irq+0x41/0x350", rip)
            ));
        }
        assert!(!breakpoint_was_stale(
            &OOPS.replace("0x30\n", "0x30 [dlr_vfio_pci]\n")
        ));
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
    }
}
