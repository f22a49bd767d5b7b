// SPDX-License-Identifier: Apache-2.0 OR MIT

//! An unmodified QEMU migrates a guest with functions of the NIC, under traffic,
//! and every byte is checked. Numbers in brackets are those of the scenarios in
//! `Documentation/scenarios.rst`; those that share a box are in `scenarios/`.

use std::{fs, io::Write, time::Duration};

use anyhow::{bail, ensure, Context, Result};
use dlr_testing::e2e::{
    blame::{EmulatorFault, ATTEMPTS},
    traffic::Load,
    Backend, Heard, Journey, Lab, Migration, Plan,
};

/// Takes a guest through a test and to its end, and again if the emulated processor has killed it.
/// What it had been through until then is judged as far as it can be.
fn survive<T>(
    start: impl Fn() -> Result<Journey>,
    test: impl Fn(&mut Journey) -> Result<()>,
    end: impl Fn(Journey) -> Result<T>,
) -> Result<T> {
    let once = || {
        let mut journey = start()?;
        let tested = test(&mut journey);
        match journey.lab().blame(tested) {
            Ok(()) => end(journey),
            Err(e) if e.is::<EmulatorFault>() => Err(journey.salvage(e)),
            Err(e) => Err(e),
        }
    };
    for _ in 1..ATTEMPTS {
        match once() {
            // Past the framework, which keeps what passing tests print.
            Err(e) if e.is::<EmulatorFault>() => writeln!(std::io::stderr(), "again: {e:#}")?,
            result => return result,
        }
    }
    once()
}

/// Both oracles are content.
fn arrive(journey: Journey) -> Result<()> {
    journey.arrive().map(drop)
}

/// What every completed migration of a DLR function has to show.
fn check_phases(migration: &Migration) -> Result<()> {
    let states: Vec<&str> = migration
        .trace
        .phases
        .iter()
        .map(|p| p.state.as_str())
        .collect();
    ensure!(
        states.starts_with(&["PRE_COPY", "PRE_COPY_P2P", "STOP_COPY"])
            || states.starts_with(&["PRE_COPY", "PRE_COPY", "PRE_COPY_P2P", "PRE_COPY_P2P"]),
        "states of the source: {states:?}"
    );
    let trace = &migration.trace;
    ensure!(
        trace.rounds.len() >= 3,
        "only {} rounds",
        trace.rounds.len()
    );
    let reported: u64 = trace.rounds.iter().map(|r| r.nic_pages).sum();
    ensure!(
        reported > 100,
        "the NIC reported only {reported} dirty pages"
    );
    let bytes = trace.bytes_in("PRE_COPY") + trace.bytes_in("STOP_COPY");
    ensure!(
        trace.bytes_in("PRE_COPY") > 0,
        "no device state in pre-copy"
    );
    ensure!(
        bytes == migration.vfio_bytes,
        "QEMU transferred {} bytes, trace {bytes}",
        migration.vfio_bytes
    );
    Ok(())
}

/// Words for a NIC that offers its guests large queues. Linux puts the three parts of a queue one after
/// the other, so that most of such a used ring has pages of its own, which only the NIC writes to. With
/// the default size it lies in one page with the available ring, which the guest's processor writes to:
/// if it does so between the last bitmap and the stop, KVM's dirty log reports the page, and hides
/// that the NIC's log did not.
const LARGE_QUEUES: [&str; 2] = ["--queue-size", "1024"];

/// One hop with the whole backlog.
fn one_hop(backend: Backend, nic_args: &[&str]) -> Result<()> {
    survive(
        || Journey::start(Lab::for_test(2, backend, nic_args)?, &[0], Load::default()),
        |journey| check_phases(&journey.hop(&[1], &Plan::default())?),
        |journey| {
            let messages = journey.arrive()?.memory.messages;
            ensure!(messages > 3300 + 20, "only {messages} datagrams");
            Ok(())
        },
    )
}

/// [1, 3, 4] over `/dev/iommu`. With large queues: only with these does the loss of a used ring always
/// show, and `a_used_ring_that_is_not_logged_turns_the_oracle_red` proves nothing unless such a guest
/// moves well with a NIC that keeps the rules. The other tests have the default size.
#[test]
fn a_guest_moves_with_iommufd() -> Result<()> {
    one_hop(Backend::Iommufd, &LARGE_QUEUES)
}

/// [2] over groups and containers.
#[test]
fn a_guest_moves_with_the_legacy_container() -> Result<()> {
    one_hop(Backend::Legacy, &[])
}

/// A guest under light traffic in the first of two functions.
fn lightly() -> Result<Journey> {
    let lab = Lab::for_test(2, Backend::Iommufd, &[])?;
    Journey::start(lab, &[0], Load::light())
}

/// [16] there and back again: nothing is left behind that disturbs the next one.
#[test]
fn a_guest_moves_there_and_back_five_times() -> Result<()> {
    let test = |journey: &mut Journey| {
        for _ in 0..5 {
            journey.hop(&[1], &Plan::quick())?;
            journey.hop(&[0], &Plan::quick())?;
        }
        Ok(())
    };
    survive(lightly, test, arrive)
}

/// [13] two functions in one guest move together: both stop with P2P first.
#[test]
fn a_guest_moves_with_two_nics() -> Result<()> {
    let start = || {
        let lab = Lab::for_test(4, Backend::Iommufd, &[])?;
        Journey::start(lab, &[0, 1], Load::light())
    };
    survive(start, two_nics, arrive)
}

fn two_nics(journey: &mut Journey) -> Result<()> {
    let migration = journey.hop(&[2, 3], &Plan::default())?;
    let phases = &migration.trace.phases;
    let at = |state: &'static str| phases.iter().filter(move |p| p.state == state);
    ensure!(at("PRE_COPY").count() == 2, "phases: {phases:?}");
    let last_p2p = at("PRE_COPY_P2P").map(|p| p.from_ms).max();
    let first_stop = at("STOP_COPY").map(|p| p.from_ms).min();
    ensure!(
        last_p2p <= first_stop,
        "a device stopped before all were quiet: {phases:?}"
    );
    Ok(())
}

/// What the payloads of the backlog show: they are not what the peer sent.
fn damaged_memory(heard: &Heard) -> Option<String> {
    let verdict = heard.verdict.as_ref().ok()?;
    (!verdict.memory.passed()).then(|| verdict.problems())
}

/// What a used ring shows whose elements are older than its index. They name other buffers than those
/// that the NIC has filled: the guest's kernel finds one that it has not given, says so and uses the
/// queue no more; or messages come damaged or twice, or are missing between others. That the traffic has
/// ended is no proof, since other errors end it, too.
fn stale_ring(heard: &Heard) -> Option<String> {
    if !heard.complaints.is_empty() {
        return Some(heard.complaints.join("\n"));
    }
    let verdict = heard.verdict.as_ref().ok()?;
    (verdict.spoiled() > 0).then(|| verdict.problems())
}

/// Migrates with a NIC that breaks a rule of the log, and expects to hear of the guest what `shown`
/// looks for. That the guest merely stands still proves nothing; if it cannot read its backlog, the move
/// is tried again. All other failures are final.
fn noticed(
    nic_args: &[&str],
    hear: fn(Journey) -> Result<Heard>,
    shown: fn(&Heard) -> Option<String>,
) -> Result<()> {
    let start = || {
        let lab = Lab::for_test(2, Backend::Iommufd, nic_args)?;
        Journey::start(lab, &[0], Load::default())
    };
    let test = |journey: &mut Journey| {
        let migration = journey.attempt(&[1], &Plan::default(), false)?;
        ensure!(migration.completed(), "{migration:?}");
        Ok(())
    };
    let mut silent = String::new();
    for _ in 0..2 {
        let heard = survive(start, test, hear)?;
        if let Some(found) = shown(&heard) {
            println!("noticed: {found}");
            return Ok(());
        }
        match heard.verdict {
            Ok(verdict) => bail!(
                "nothing shows that a NIC with {nic_args:?} broke a rule: {}",
                verdict.problems()
            ),
            Err(e) => silent = format!("{e:#}"),
        }
        println!("the guest cannot say what it saw: {silent}");
    }
    bail!("the guest never said what it saw: {silent}")
}

/// Sabotage `drop-log-entry`: every third entry is not posted.
#[test]
fn dropped_log_entries_turn_the_oracle_red() -> Result<()> {
    let args = ["--sabotage", "drop-log-entry=3"];
    noticed(&args, Journey::hear, damaged_memory)
}

/// Sabotage `filter-not-cleared`: what was logged once is never logged again.
#[test]
fn a_filter_that_is_not_cleared_turns_the_oracle_red() -> Result<()> {
    let args = ["--sabotage", "filter-not-cleared=1"];
    noticed(&args, Journey::hear, damaged_memory)
}

/// Sabotage `drop-used-ring`: writes of used rings are not logged. With the default size it would depend
/// on what the guest's processor writes last whether the oracle finds a difference. With large queues three quarters
/// of the elements are in pages without anything of the processor's, and the NIC writes enough of them
/// after the last bitmap to reach these pages.
#[test]
fn a_used_ring_that_is_not_logged_turns_the_oracle_red() -> Result<()> {
    let [option, size] = LARGE_QUEUES;
    let args = [option, size, "--sabotage", "drop-used-ring=1"];
    let hear = |journey: Journey| journey.hear_of_rings(Duration::from_secs(20));
    noticed(&args, hear, stale_ring)
}

/// Where a symbol lies in a guest's memory: the guest has the kernel of the box, at the address
/// that it was built for.
fn place_of(lab: &Lab, symbol: &str) -> Result<u64> {
    let map = fs::read_to_string(lab.host().artefacts().kernel.join("System.map"))?;
    let line = map
        .lines()
        .find(|line| line.split_whitespace().last() == Some(symbol));
    let address = line.and_then(|line| line.split_whitespace().next());
    let address = address.with_context(|| format!("no {symbol} in System.map"))?;
    // Mapped at __START_KERNEL_map.
    Ok(u64::from_str_radix(address, 16)? & 0x7fff_ffff)
}

/// Negative control of the excuse for the emulated processor. At the resume the NIC writes rubbish over a
/// page table of the guest, which ends with a triple fault or spins: the move is red, and nothing excuses it.
#[test]
fn a_guest_that_a_stray_write_kills_is_not_excused() -> Result<()> {
    stray_write(|lab| place_of(lab, "level2_kernel_pgt"))
}

/// The same for the stack of the idle task: the rubbish lies where the processor keeps the
/// registers of what it interrupts, and where the excuse is looked for.
#[test]
fn a_guest_with_a_stray_write_on_its_stack_is_not_excused() -> Result<()> {
    const PAGE: u64 = 4096;
    stray_write(|lab| Ok(place_of(lab, "__end_init_stack")? - PAGE))
}

fn stray_write(place: fn(&Lab) -> Result<u64>) -> Result<()> {
    // What the emulated processor does before the guest runs there is another matter.
    let test = |journey: &mut Journey| {
        let at = place(journey.lab())?;
        journey.lab().sabotage("stray-write", at)?;
        let migration = journey.attempt(&[1], &Plan::quick(), false)?;
        ensure!(migration.completed(), "{migration:?}");
        Ok(())
    };
    survive(lightly, test, |mut journey| {
        let alive = journey.check_alive();
        match journey.lab().blame(alive) {
            Ok(()) => bail!("the guest lives on"),
            Err(e) if e.is::<EmulatorFault>() => bail!("excused: {e:#}"),
            Err(e) => println!("noticed: {e:#}"),
        }
        journey.give_up()
    })
}
