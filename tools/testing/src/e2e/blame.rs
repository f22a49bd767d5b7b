// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Tells a guest that the emulated processor has killed from one that lost memory. Pure.
//!
//! `Documentation/testing.rst` describes the bugs: an injected interrupt is delivered a second
//! time with interrupts disabled; an interrupt is taken behind VMRUN; a guest cannot go on where it
//! had been executing. This is what consoles and logs show of them; [`exits`](super::exits) has what
//! KVM notes.

use std::fmt;

use crate::splat;

/// So often something is tried that the emulated processor kills. Of a hundred guests that migrate it
/// kills one or two, so twice would not do for some hundred tests in a row.
pub const ATTEMPTS: u32 = 3;

/// Marks an error of which the emulated processor is the cause, as a context.
#[derive(Clone, Copy, Debug)]
pub struct EmulatorFault;

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed by the emulated processor (Documentation/testing.rst)")
    }
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

/// Whether the first thing that the kernel of a box complained about is its own death, and that
/// the emulated processor is to blame for it. `log` is all that it said.
pub fn box_was_killed(log: &str) -> bool {
    let first = splat::complaints(log, &[])
        .first()
        .map(|(number, _)| *number);
    let Some(skipped) = first.and_then(|number| number.checked_sub(1)) else {
        return false;
    };
    let rest: Vec<&str> = log.lines().skip(skipped).collect();
    let oops = rest.join("\n");
    let oops = oops.split("---[ end trace").next().unwrap_or(&oops);
    !oops.contains("[dlr_vfio_pci]") && (breakpoint_was_stale(oops) || came_behind_vmrun(oops))
}

/// Whether the kernel of a box stood still while it booted, before any program ran, without a word of
/// complaint, and no NIC is to blame: QEMU, which waits a minute for the answer of one and then says
/// so, has only warned. `console` and `qemu` are all that both said. The driver was not there yet.
pub fn boot_stood_still(console: &str, qemu: &str) -> bool {
    console.contains("Linux version ")
        && !console.contains("Run /init as init process")
        && splat::complaints(console, &[]).is_empty()
        && qemu.lines().all(|line| line.contains(": warning: "))
}

/// Whether a kernel died of a breakpoint of its own. It patches a running program by way of one, and
/// an emulated processor may execute it after the kernel has taken it back. Not that of a module, let
/// alone of one that is gone: its memory is filled with breakpoints.
fn breakpoint_was_stale(oops: &str) -> bool {
    if !oops
        .lines()
        .next()
        .is_some_and(|l| l.contains("Oops: int3: "))
    {
        return false;
    }
    let at = oops.split_once("RIP: 0010:").map_or("", |(_, rest)| rest);
    let symbol = at.lines().next().unwrap_or("");
    symbol.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !symbol.contains('[')
}

/// Whether a kernel died of an interrupt between VMRUN and STGI, where no processor takes one: the
/// global interrupt flag is clear there. The guest's registers are still loaded, GS among them.
fn came_behind_vmrun(oops: &str) -> bool {
    let lines: Vec<&str> = oops.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        pair.first().is_some_and(|l| l.starts_with("asm_sysvec_"))
            && pair
                .last()
                .is_some_and(|l| l.starts_with("RIP: 0010:__svm_vcpu_run+"))
    })
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

    const INT3: &str = "\
dlr_vfio_pci 0000:00:05.0: bound
Oops: int3: 0000 [#1] SMP
RIP: 0010:__apic_accept_irq+0x41/0x350
 kvm_apic_set_irq+0x1c/0x30
---[ end trace 0000000000000000 ]---
";

    #[test]
    fn only_a_breakpoint_of_the_kernel_itself_counts() {
        assert!(box_was_killed(INT3));
        assert!(!box_was_killed(&INT3.replace("int3: ", "")));
        // Unloaded, still there, and on its way.
        for rip in ["0xffffffffc0001234", "f+0x1/0x2 [dlr_vfio_pci]"] {
            assert!(!box_was_killed(
                &INT3.replace("__apic_accept_irq+0x41/0x350", rip)
            ));
        }
        let on_its_way = INT3.replace("0x30\n", "0x30 [dlr_vfio_pci]\n");
        assert!(!box_was_killed(&on_its_way));
        // Something else had gone wrong before.
        let warned = format!("WARNING: CPU: 0 PID: 1 at drivers/vfio/x.c:1 f+0x1/0x2\n{INT3}");
        assert!(!box_was_killed(&warned));
        assert!(!box_was_killed("nothing"));
    }

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

    const BEHIND_VMRUN: &str = "\
BUG: TASK stack guard page was hit at ffa0000000307ff8 (stack is ffa0000000308000..ffa000000030c000)
Oops: stack guard page: 0000 [#1] SMP
RIP: 0010:irqentry_enter+0x13/0x30
 asm_exc_page_fault+0x22/0x30
 sysvec_apic_timer_interrupt+0xa/0x80
 asm_sysvec_apic_timer_interrupt+0x16/0x20
RIP: 0010:__svm_vcpu_run+0x9c/0x210
 ? svm_vcpu_enter_exit+0x24/0x30
---[ end trace 0000000000000000 ]---
";

    #[test]
    fn only_an_interrupt_behind_vmrun_counts() {
        assert!(box_was_killed(BEHIND_VMRUN));
        let elsewhere = BEHIND_VMRUN.replace("__svm_vcpu_run", "svm_vcpu_run");
        assert!(!box_was_killed(&elsewhere));
        let fault = BEHIND_VMRUN.replace(" asm_sysvec_apic_timer_interrupt", " asm_exc_page_fault");
        assert!(!box_was_killed(&fault));
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
