// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Tells a guest that the emulated processor has killed from one that lost memory. Pure.
//!
//! `Documentation/testing.rst` describes the bug: an injected interrupt is delivered a second
//! time with interrupts disabled. In the first instructions after an entry from user mode that is
//! fatal at once, with or without paravirtual EOI. The others: the kernel of the box dies of its own
//! breakpoint, and a guest is entered with the processor state of the box.

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
