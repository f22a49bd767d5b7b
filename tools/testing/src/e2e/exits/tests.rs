// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

fn exit(task: &str, reason: &str, rip: &str, info: &str) -> String {
    format!(
        "       CPU 0/KVM-{task}     [000] d..1.    34.523668: kvm_exit: vcpu 0 reason {reason} \
         rip 0x{rip} info1 0x0000000000000000 info2 0x0000000000000000 {info} requests 0x0\n"
    )
}

fn injected(vector: &str) -> String {
    format!("       CPU 0/KVM-150     [000] .....    34.5: kvm_inj_virq: IRQ 0x{vector}\n")
}

const QUIET: &str = "intr_info 0x00000000 error_code 0x00000000";
const FETCH: &str = "intr_info 0x80000b0e error_code 0x00000010";
const DELIVERY: &str = "intr_info 0x800000ec error_code 0x00000000";

fn life(exits: usize) -> String {
    exit("150", "npf", "ffffffff81623c7f", QUIET).repeat(exits)
}

/// KVM's trace events at the end of a guest. They are made up: no trace of a real end was kept.
fn in_entry_code(exits: usize, acknowledged: &str, rip: &str) -> String {
    format!(
        "ffffffff81000000 T __entry_text_start\nffffffff81001183 T __entry_text_end\n{}{}{}{}",
        life(exits),
        injected("ec"),
        exit(acknowledged, "msr", "ffffffff810d7c79", QUIET),
        exit("150", "shutdown", rip, QUIET)
    )
}

#[test]
fn only_a_triple_fault_behind_an_interrupt_counts() {
    let entry = "ffffffff81000db9";
    assert!(died_of_an_interrupt(&in_entry_code(500, "77", entry)));
    // It had acknowledged the interrupt.
    assert!(!died_of_an_interrupt(&in_entry_code(500, "150", entry)));
    // It had just come.
    assert!(!died_of_an_interrupt(&in_entry_code(499, "77", entry)));
    // A reboot by triple fault.
    let elsewhere = in_entry_code(500, "77", "ffffffff810d0261");
    assert!(!died_of_an_interrupt(&elsewhere));
    let other = in_entry_code(500, "77", entry).replace("__entry_text_end", "somewhere");
    assert!(!died_of_an_interrupt(&other));
    assert!(!died_of_an_interrupt(""));
}

/// The last lines of a guest that died in its source, in pre-copy, and others before.
fn unfetched(exits: usize) -> String {
    life(exits - 1)
        + &exit("150", "npf", "ffffffff814e0ab6", QUIET)
        + &exit("150", "shutdown", "ffffffff814e0ab6", FETCH)
}

#[test]
fn only_a_fetch_that_had_just_worked_counts() {
    let said = unfetched(500);
    assert!(could_not_go_on(&said));
    assert!(!could_not_go_on(&unfetched(499)));
    // The guest had gone on; the access was a write; KVM had injected no interrupt.
    assert!(!could_not_go_on(&said.replacen("814e0ab6", "814e0aba", 1)));
    assert!(!could_not_go_on(&said.replace("0x00000010", "0x00000002")));
    assert!(!could_not_go_on(&said.replace("80000b0e", "800000ec")));
    assert!(!could_not_go_on(&said.replace("shutdown", "hlt")));
}

#[test]
fn an_instruction_that_kvm_executes_is_behind_the_guest() {
    let end = |reason, rip| {
        life(500)
            + &exit("150", reason, "ffffffff810d7c79", QUIET)
            + &exit("150", "shutdown", rip, FETCH)
    };
    assert!(could_not_go_on(&end("msr", "ffffffff810d7c7b")));
    assert!(!could_not_go_on(&end("msr", "ffffffff810d7c79")));
    assert!(!could_not_go_on(&end("msr", "ffffffff810d7c89")));
    assert!(!could_not_go_on(&end("interrupt", "ffffffff810d7c7b")));
}

#[test]
fn only_an_interrupt_of_this_run_that_was_not_delivered_counts() {
    let end = |vector, info| {
        life(500)
            + &exit("150", "vintr", "ffffffff8111ee24", QUIET)
            + &injected(vector)
            + &exit("150", "shutdown", "ffffffff8111ee24", info)
    };
    assert!(could_not_go_on(&end("ec", DELIVERY)));
    // Another one; it was delivered; it had executed something.
    assert!(!could_not_go_on(&end("25", DELIVERY)));
    assert!(!could_not_go_on(&end("ec", QUIET)));
    let went_on = end("ec", DELIVERY).replacen("8111ee24", "8111ee20", 1);
    assert!(!could_not_go_on(&went_on));
}

#[test]
fn only_a_guest_that_stays_behind_vmrun_is_where_the_box_was() {
    let stuck = |count, rip| {
        "ffffffff81616330 T __svm_vcpu_run\nffffffff81616540 T __svm_sev_es_vcpu_run\n".to_owned()
            + &life(500)
            + &exit("150", "npf", rip, FETCH).repeat(count)
            + &exit("151", "hlt", "ffffffff81437808", QUIET)
    };
    assert!(is_where_the_box_was(&stuck(100, "ffffffff816163cc")));
    // It happened not often enough; it happened elsewhere; the trace has no place of VMRUN.
    assert!(!is_where_the_box_was(&stuck(99, "ffffffff816163cc")));
    assert!(!is_where_the_box_was(&stuck(100, "ffffffff81616540")));
    let said = stuck(100, "ffffffff816163cc");
    let went_on = stuck(99, "ffffffff816163cc")
        + &exit("150", "msr", "ffffffff810d7c79", QUIET)
        + &exit("150", "npf", "ffffffff816163cc", FETCH).repeat(99);
    assert!(!is_where_the_box_was(&went_on));
    // A guest with another kernel that idles, or writes, there.
    assert!(!is_where_the_box_was(&said.replace(" npf ", " hlt ")));
    assert!(!is_where_the_box_was(&said.replace(FETCH, QUIET)));
    assert!(!is_where_the_box_was(
        &said.replace(" __svm_vcpu_run", " x")
    ));
}

/// What was seen of a guest in pre-copy, in its source: 1991 exits at one place, behind the `pause` of
/// a reader of the clock, and a few at its neighbours.
#[test]
fn only_a_guest_that_lived_and_spins_waits_for_its_own_clock() {
    let symbols = "ffffffff81186b30 T ktime_get_update_offsets_now\n\
                   ffffffff81186ca0 T do_adjtimex\n";
    let ticks = |exits| exit("150", "msr", "ffffffff810d7279", QUIET).repeat(exits);
    let spin = |rip| exit("150", "interrupt", rip, QUIET);
    let stuck = |count: usize| {
        symbols.to_owned()
            + &life(3)
            + &spin("ffffffff81186c1f").repeat(count - 1)
            + &spin("ffffffff81186b4d")
    };
    let said = stuck(100);
    assert!(waits_for_its_own_clock(&said, &ticks(500)));
    // It had just come; it had only been given memory; another one had lived.
    assert!(!waits_for_its_own_clock(&said, &ticks(499)));
    assert!(!waits_for_its_own_clock(&said, &life(500)));
    let other = ticks(500).replace("KVM-150", "KVM-151");
    assert!(!waits_for_its_own_clock(&said, &other));
    // It happened not often enough; elsewhere; it got on; it got an interrupt; it has a second
    // processor; the trace has no place of the reader.
    assert!(!waits_for_its_own_clock(&stuck(99), &ticks(500)));
    let elsewhere = said.replace("81186c1f", "81186ca0");
    assert!(!waits_for_its_own_clock(&elsewhere, &ticks(500)));
    for end in [life(1), injected("ec")] {
        assert!(!waits_for_its_own_clock(
            &(said.clone() + &end),
            &ticks(500)
        ));
    }
    let second = said.clone() + &life(1).replace("CPU 0/KVM-150", "CPU 1/KVM-152");
    assert!(!waits_for_its_own_clock(&second, &ticks(500)));
    let unknown = said.replace(" ktime_get", " ktime");
    assert!(!waits_for_its_own_clock(&unknown, &ticks(500)));
}

#[test]
fn the_last_words_are_those_before_the_shutdown() {
    let said = unfetched(500) + &exit("9", "npf", "1", QUIET);
    let words = last_words(&said);
    assert_eq!(words.len(), 4);
    assert!(words[3].starts_with("kvm_exit: vcpu 0 reason shutdown rip 0xffffffff814e0ab6"));
    assert!(last_words("").is_empty());
}
