// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Tells a guest that the emulated processor has killed from one that lost memory. Pure.
//!
//! `Documentation/testing.rst` describes the bug: an injected interrupt is delivered a second time, with
//! interrupts disabled. The guest's own stack shows it.

use std::fmt;

use anyhow::Error;

use crate::qmp::Silent;

/// So often something is tried that the emulated processor kills: of some two hundred guests that are
/// migrated it kills one.
pub const ATTEMPTS: u32 = 2;

/// Marks an error of which the emulated processor is the cause, as a context.
#[derive(Clone, Copy, Debug)]
pub struct EmulatorFault;

impl fmt::Display for EmulatorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("killed by the emulated processor (Documentation/testing.rst)")
    }
}

/// Lines that the registers of an interrupted place take, with its RFLAGS.
const REGISTERS: usize = 4;

/// RFLAGS.IF.
const IF: u64 = 1 << 9;
/// The bit of RFLAGS that is always set, and the number of bits that have a meaning.
const ALWAYS: u64 = 1 << 1;
const BITS: u32 = 22;

/// The virtual machine of which an error says that it is dead or spins. All other errors have
/// another cause, whatever the consoles say: an order of states, the end of a NIC, what an oracle
/// found.
pub fn silent(error: &Error) -> Option<&str> {
    error.downcast_ref::<Silent>().map(|s| s.vm.as_str())
}

/// Whether a guest's console shows, in the trace of a stack, an interrupt that was taken where interrupts
/// were disabled: the entry of an interrupt, and below it the interrupted place with IF clear. No processor
/// does that, and the processor itself has written these registers there when the interrupt came. (A page of
/// the stack that was lost on its way would show older ones, which the processor has written as well.) An
/// exception or an NMI may interrupt such a place.
pub fn interrupt_came_with_interrupts_disabled(console: &str) -> bool {
    let lines: Vec<&str> = console.lines().collect();
    lines.windows(REGISTERS + 1).any(|part| {
        let [entry, registers @ ..] = part else {
            return false;
        };
        is_entry_of_an_interrupt(entry)
            && registers.first().is_some_and(|l| l.contains("RIP: 0010:"))
            && flags(registers).is_some_and(|flags| is_rflags(flags) && flags & IF == 0)
    })
}

/// Whether a line of a trace is the entry code of a maskable interrupt. A `?` stands before what was only
/// found on the stack.
fn is_entry_of_an_interrupt(line: &str) -> bool {
    let symbol = line.split_whitespace().last().unwrap_or_default();
    let certain = !line.contains("? ");
    certain && (symbol.starts_with("asm_sysvec_") || symbol.starts_with("asm_common_interrupt+"))
}

/// Whether a processor can have written this. Rubbish on a stack is hardly ever like it.
fn is_rflags(flags: u64) -> bool {
    flags & ALWAYS == ALWAYS && flags >> BITS == 0
}

fn flags(registers: &[&str]) -> Option<u64> {
    let text = registers.iter().find_map(|l| l.split_once("EFLAGS: "))?.1;
    u64::from_str_radix(text.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest printed that spun, when an NMI came.
    const SPUN: &str = "\
Kernel panic - not syncing: NMI: Not continuing
 <NMI>
 end_repeat_nmi+0xf/0x18
RIP: 0010:ktime_get_update_offsets_now+0xef/0x170
Code: 00 48 39
RSP: 0018:ffa0000000003df0 EFLAGS: 00010002
 </NMI>
 hrtimer_interrupt+0x86/0x1d0
 asm_sysvec_apic_timer_interrupt+0x16/0x20
RIP: 0010:timekeeping_update_from_shadow.constprop.0+0xba/0x340
Code: 48 89 15
RSP: 0018:ffa0000000003f60 EFLAGS: 00010006
 sysvec_apic_timer_interrupt+0x58/0x80
 asm_sysvec_apic_timer_interrupt+0x16/0x20
RIP: 0010:pv_native_safe_halt+0x13/0x20
Code: 33 00 00
RSP: 0018:ffffffff81c03e28 EFLAGS: 00010246
";

    #[test]
    fn only_silence_may_be_excused() {
        let vm = "vm0".to_owned();
        let silence = Error::msg("no answer to cont").context(Silent { vm });
        assert_eq!(silent(&silence.context("afterwards")), Some("vm0"));
        for other in [
            "LOG_START REPORT instead of LOG_START",
            "the NIC died",
            "memory: backlog 100: 1 damaged",
            "only 3 datagrams of the backlog were written",
            "`vm0` is silent",
        ] {
            assert_eq!(silent(&Error::msg(other).context("afterwards")), None);
        }
    }

    #[test]
    fn what_a_nic_wrote_onto_a_stack_does_not_count() {
        for rubbish in ["5a5a5a5a5a5a5a5a", "5a5a585a", "00000000", "00010004"] {
            let text = SPUN.replace("EFLAGS: 00010006", &format!("EFLAGS: {rubbish}"));
            assert!(!interrupt_came_with_interrupts_disabled(&text), "{rubbish}");
        }
    }

    #[test]
    fn an_interrupt_with_interrupts_disabled_counts() {
        let came = interrupt_came_with_interrupts_disabled;
        assert!(came(SPUN));
        let (entry, place) = (" asm_sysvec_apic_timer_interrupt+0x16", "EFLAGS: 00010006");
        assert!(came(&SPUN.replace(entry, " asm_common_interrupt+0x22")));
        // What the NMI and the second interrupt came into is no proof.
        assert!(!came(&SPUN.replace(place, "EFLAGS: 00010206")));
        for other in [" end_repeat_nmi+0xf", " asm_exc_page_fault+0x22"] {
            assert!(!came(&SPUN.replace(entry, other)));
        }
        // What was only found on the stack.
        assert!(!came(
            &SPUN.replace(entry, " ? asm_sysvec_apic_timer_interrupt+0x16")
        ));
        assert!(!came("Kernel panic - not syncing: Oops"));
    }
}
