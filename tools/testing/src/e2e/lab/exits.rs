// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What KVM notes of its guests. Pure: commands for a shell in the box, and what they print.

use std::collections::BTreeMap;

/// Lets the kernel of a box note each exit of a guest and each interrupt that KVM injects, in a ring of its
/// own.
pub(super) const NOTE_EXITS: &str = "\
    mkdir -p /sys/kernel/tracing/instances/kvm && cd /sys/kernel/tracing/instances/kvm && \
    echo 256 > buffer_size_kb && \
    for event in kvm_exit kvm_inj_virq; do echo 1 > events/kvm/$event/enable; done";

/// Prints the last triple fault of a guest, and the three events before it.
pub(super) const SHOW_SHUTDOWN: &str = "\
    grep -B3 ' reason shutdown ' /sys/kernel/tracing/instances/kvm/trace | tail -n 4 | \
    sed 's/^.*: kvm_/kvm_/'";

/// Prints what was noted last. What is noted meanwhile would overwrite what is being read.
pub(super) const SHOW_EXITS: &str = "\
    cd /sys/kernel/tracing/instances/kvm && echo 0 > tracing_on && tail -n 4000 trace && echo 1 > tracing_on";

/// A guest of which KVM noted nothing but so many interrupts of the box does not get on: at each tick of
/// its own it writes to its local APIC, and it stops when it is idle.
const FOR_EVER: usize = 100;

/// Threads of virtual processors that spin: of all that [`SHOW_EXITS`] prints of one, the last events are
/// interrupts of the box.
pub(super) fn spinning(said: &str) -> Vec<u32> {
    let mut interrupts: BTreeMap<u32, usize> = BTreeMap::new();
    for line in said.lines().filter(|line| line.contains(": kvm_")) {
        let Some(thread) = thread(line) else { continue };
        let count = interrupts.entry(thread).or_default();
        *count = if line.contains(" reason interrupt ") {
            *count + 1
        } else {
            0
        };
    }
    let spins = |(thread, count)| (count >= FOR_EVER).then_some(thread);
    interrupts.into_iter().filter_map(spins).collect()
}

/// The thread of a line that begins `CPU 0/KVM-151   [002]`.
fn thread(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("/KVM-")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(thread: u32, reason: &str) -> String {
        format!(
            "       CPU 0/KVM-{thread}     [002] d..1.   209.302220: kvm_exit: vcpu 0 reason {reason} rip \
             0xffffffff81658461 info1 0x0000000000000000 requests 0x0000000000000000\n"
        )
    }

    #[test]
    fn a_guest_that_only_leaves_for_interrupts_spins() {
        let long = exit(151, "interrupt").repeat(FOR_EVER);
        assert_eq!(spinning(&long), [151]);
        assert_eq!(
            spinning(&(exit(151, "msr") + &long + &exit(152, "msr"))),
            [151]
        );
        assert!(spinning(&(long.clone() + &exit(151, "msr"))).is_empty());
        assert!(spinning(&exit(151, "interrupt").repeat(FOR_EVER - 1)).is_empty());
        let injected = "  CPU 0/KVM-151     [002] .....    34.5: kvm_inj_virq: IRQ 0xec\n";
        assert!(spinning(&(long + injected)).is_empty());
    }
}
