// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What KVM notes of its guests, and what it shows of those that ended with a triple fault. Pure.
//!
//! See [`blame`](super::blame) for what that is good for.

use std::collections::HashMap;

/// Lets a kernel note each exit of a guest and each interrupt that goes into one, in a ring of its
/// own, which stands still when the guests do; and in another one the exits that are not for an
/// interrupt of the box, which stands still when a guest only spins.
pub const NOTE_EXITS: &str = "\
    cd /sys/kernel/tracing/instances && mkdir -p kvm life && cd kvm && echo 256 > buffer_size_kb && \
    for event in kvm_exit kvm_inj_virq; do echo 1 > events/kvm/$event/enable; done && \
    cd ../life && echo 512 > buffer_size_kb && \
    echo 'exit_reason != 0x60' > events/kvm/kvm_exit/filter && echo 1 > events/kvm/kvm_exit/enable";

/// Prints what [`NOTE_EXITS`] has noted last, and where entry code, VMRUN and a reader of the clock of
/// the box's kernel are, which those of the guests usually are too.
pub const SHOW_EXITS: &str = "\
    grep -E -A1 ' (__entry_text_start|__entry_text_end|__svm_vcpu_run|ktime_get_update_offsets_now)$' \
    /proc/kallsyms; tail -n 4000 /sys/kernel/tracing/instances/kvm/trace";

/// Prints the exits that were not for an interrupt of the box, the last ones last.
pub const SHOW_LIVES: &str = "tail -n 8000 /sys/kernel/tracing/instances/life/trace";

/// So many exits of a guest show that it got on: one whose memory was lost on its way would not.
const EXITS_OF_A_LIFE: usize = 500;

/// A guest that was left so often at one place, and nowhere else in between, does not get on.
const FOR_EVER: usize = 100;

/// No instruction is longer. KVM steps over the one that it has executed for the guest.
const LONGEST_INSTRUCTION: u64 = 15;

/// Bit 31 of `exit_int_info`: an event was on its way into the guest. Its type is in bits 10 to 8,
/// 0 for an interrupt and 3 for an exception, its vector in the lowest byte (AMD64 Architecture
/// Programmer's Manual, volume 2, 15.20).
const ON_ITS_WAY: u64 = 0x8000_0000;

/// [`ON_ITS_WAY`] of a page fault, which has an error code (bit 11).
const PAGE_FAULT: u64 = ON_ITS_WAY | 0xb0e;

/// An event of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event<'a> {
    /// The guest was left.
    Exit {
        reason: &'a str,
        rip: u64,
        /// `exit_int_info` of the VMCB and the error code that belongs to it.
        info: u64,
        error: u64,
    },
    /// KVM put an interrupt into the guest's next run.
    Injected(u64),
}

impl<'a> Event<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if let Some(text) = text.strip_prefix("kvm_inj_virq: ") {
            return field(text, "IRQ 0x").map(Self::Injected);
        }
        let text = text.strip_prefix("kvm_exit: ")?;
        let (_, rest) = text.split_once(" reason ")?;
        Some(Self::Exit {
            reason: rest.split_whitespace().next()?,
            rip: field(text, "rip 0x")?,
            info: field(text, "intr_info 0x").unwrap_or(0),
            error: field(text, "error_code 0x").unwrap_or(0),
        })
    }

    fn is_exit(&self) -> bool {
        matches!(self, Self::Exit { .. })
    }

    /// Each interrupt has two: its end, and the next deadline of the timer. Other registers of the
    /// processor are hardly ever written.
    fn is_write_to_the_apic(&self) -> bool {
        matches!(self, Self::Exit { reason: "msr", .. })
    }
}

/// A guest's triple fault.
struct Shutdown<'a> {
    rip: u64,
    info: u64,
    error: u64,
    /// All events of the guest before, the last one first.
    before: Vec<Event<'a>>,
}

impl Shutdown<'_> {
    /// Interrupts that KVM put into the run that ended so.
    fn injected(&self) -> impl Iterator<Item = u64> + '_ {
        self.before.iter().map_while(|event| match event {
            Event::Injected(vector) => Some(*vector),
            Event::Exit { .. } => None,
        })
    }

    /// The exit before.
    fn exit(&self) -> Option<(&str, u64)> {
        self.before.iter().find_map(|event| match event {
            Event::Exit { reason, rip, .. } => Some((*reason, *rip)),
            Event::Injected(_) => None,
        })
    }

    fn had_been_getting_on(&self) -> bool {
        self.before.iter().filter(|event| event.is_exit()).count() >= EXITS_OF_A_LIFE
    }

    /// Whether the guest was where the exit before had left it.
    fn stood_still(&self) -> bool {
        self.exit().is_some_and(|(reason, rip)| match reason {
            // KVM leaves these instructions as executed.
            "msr" | "hlt" | "io" | "cpuid" => {
                self.rip > rip && self.rip - rip <= LONGEST_INSTRUCTION
            }
            _ => self.rip == rip,
        })
    }
}

/// Whether a guest ended with a triple fault in the very run into which KVM had put an interrupt,
/// before it got to acknowledge that one, and in its entry code: the second delivery hit it on the
/// entry stack, and so did the faults that followed. `said` is what [`SHOW_EXITS`] prints.
pub fn died_of_an_interrupt(said: &str) -> bool {
    let entry = |name| {
        let line = said.lines().find(|line| line.ends_with(name))?;
        address(line)
    };
    let (Some(start), Some(end)) = (entry(" __entry_text_start"), entry(" __entry_text_end"))
    else {
        return false;
    };
    shutdowns(said).iter().any(|end_of_guest| {
        (start..end).contains(&end_of_guest.rip)
            && end_of_guest.injected().next().is_some()
            && end_of_guest.had_been_getting_on()
    })
}

/// Whether a guest ended with a triple fault before it had executed anything since KVM entered it:
/// its next instruction could not be fetched, its page being absent, or the interrupt that KVM had
/// put into this run could not be delivered.
///
/// At the exit before, page tables, IDT and stack had been in use, and so they were at the end:
/// where a box was stopped at such a shutdown, VMCB, nested page tables and the guest's own ones
/// were whole, and led to the instruction and to the IDT.
pub fn could_not_go_on(said: &str) -> bool {
    shutdowns(said).iter().any(|end| {
        let not_delivered = end.injected().any(|vector| end.info == ON_ITS_WAY | vector);
        (not_fetched(end.info, end.error) || not_delivered)
            && end.stood_still()
            && end.had_been_getting_on()
    })
}

/// Whether a guest was left again and again at an instruction next to the VMRUN of the box, which could
/// not be fetched, for nested page faults, and nowhere else in between: KVM has been given the processor's
/// state of the box for that of the guest. (Addresses of a guest with another kernel mean nothing; that one
/// gets on between its page faults.)
pub fn is_where_the_box_was(said: &str) -> bool {
    let mut lines = said.lines();
    let start = lines.find(|line| line.ends_with(" __svm_vcpu_run"));
    let (Some(start), Some(end)) = (start.and_then(address), lines.next().and_then(address)) else {
        return false;
    };
    let mut there: HashMap<&str, usize> = HashMap::new();
    events(said).into_iter().any(|(task, event)| {
        let Event::Exit {
            reason,
            rip,
            info,
            error,
        } = event
        else {
            return false;
        };
        let count = there.entry(task).or_default();
        let faulted = reason == "npf" && not_fetched(info, error);
        *count = if faulted && (start..end).contains(&rip) {
            *count + 1
        } else {
            0
        };
        *count >= FOR_EVER
    })
}

/// Whether a guest of one processor waits in its timer interrupt for ever for a change of the clock to
/// end. The kernel changes it with interrupts disabled, so only an interrupt that was delivered
/// nevertheless can have come in between, or a write of the NIC into the clock itself. (Such a write
/// would come again: a test is tried three times at most.) `said` is what [`SHOW_EXITS`] prints, `lives`
/// what [`SHOW_LIVES`] does: a guest that has written to its local APIC so often has found the clock
/// whole at its ticks before, so it did not arrive with half of a change. Of a guest with another
/// kernel the addresses are of another function.
pub fn waits_for_its_own_clock(said: &str, lives: &str) -> bool {
    let mut lines = said.lines();
    let start = lines.find(|line| line.ends_with(" ktime_get_update_offsets_now"));
    let (Some(start), Some(end)) = (start.and_then(address), lines.next().and_then(address)) else {
        return false;
    };
    let lived = |task: &str| {
        let own = events(lives).into_iter();
        let ticks = own.filter(|(of, event)| *of == task && event.is_write_to_the_apic());
        ticks.count() >= EXITS_OF_A_LIFE
    };
    let mut there: HashMap<&str, usize> = HashMap::new();
    for (task, event) in events(said) {
        let waits = match event {
            Event::Exit { reason, rip, .. } => reason == "interrupt" && (start..end).contains(&rip),
            Event::Injected(_) => false,
        };
        let count = there.entry(task).or_default();
        *count = if waits { *count + 1 } else { 0 };
    }
    // A second processor may be the one that changes the clock.
    let is_alone = !said.contains(" CPU 1/KVM");
    is_alone
        && there
            .into_iter()
            .any(|(task, count)| count >= FOR_EVER && lived(task))
}

/// The last triple fault and the events before it, for a report.
pub fn last_words(said: &str) -> Vec<&str> {
    let lines: Vec<&str> = said.lines().collect();
    let end = lines.iter().rposition(|l| l.contains(" reason shutdown "));
    let Some(end) = end else { return Vec::new() };
    lines
        .get(end.saturating_sub(3)..=end)
        .unwrap_or_default()
        .iter()
        .filter_map(|line| line.find("kvm_").and_then(|at| line.get(at..)))
        .collect()
}

fn shutdowns(said: &str) -> Vec<Shutdown<'_>> {
    let events = events(said);
    let ends = events.iter().enumerate().filter_map(|(n, (task, event))| {
        let &Event::Exit {
            reason: "shutdown",
            rip,
            info,
            error,
        } = event
        else {
            return None;
        };
        let before = events.iter().take(n).rev().filter(|(t, _)| t == task);
        Some(Shutdown {
            rip,
            info,
            error,
            before: before.map(|(_, event)| *event).collect(),
        })
    });
    ends.collect()
}

/// Task and event of each line that has one.
fn events(said: &str) -> Vec<(&str, Event<'_>)> {
    said.lines()
        .filter_map(|line| {
            let (task, rest) = line.split_once('[')?;
            let at = rest.find("kvm_")?;
            Some((task.trim(), Event::parse(rest.get(at..)?)?))
        })
        .collect()
}

/// The address that a line of kallsyms begins with.
fn address(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_whitespace().next()?, 16).ok()
}

/// Whether an instruction was being fetched whose page is absent.
fn not_fetched(info: u64, error: u64) -> bool {
    info == PAGE_FAULT && error & 0x11 == 0x10
}

/// A hexadecimal number behind `name`.
fn field(event: &str, name: &str) -> Option<u64> {
    let (_, rest) = event.split_once(name)?;
    u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests;
