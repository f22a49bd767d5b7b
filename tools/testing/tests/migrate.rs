// SPDX-License-Identifier: Apache-2.0 OR MIT

//! An unmodified QEMU migrates a guest with functions of the NIC, under traffic,
//! and every byte is checked. Numbers in brackets are those of the scenarios in
//! `Documentation/scenarios.rst`; those that share a box are in `scenarios/`.

use std::{fs, io::Write};

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

/// One hop with the whole backlog.
fn one_hop(backend: Backend) -> Result<()> {
    survive(
        || Journey::start(Lab::for_test(2, backend, &[])?, &[0], Load::default()),
        |journey| check_phases(&journey.hop(&[1], &Plan::default())?),
        |journey| {
            let messages = journey.arrive()?.memory.messages;
            ensure!(messages > 3300 + 20, "only {messages} datagrams");
            Ok(())
        },
    )
}

/// [1, 3, 4] over `/dev/iommu`.
#[test]
fn a_guest_moves_with_iommufd() -> Result<()> {
    one_hop(Backend::Iommufd)
}

/// [2] over groups and containers.
#[test]
fn a_guest_moves_with_the_legacy_container() -> Result<()> {
    one_hop(Backend::Legacy)
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

/// Migrates with a NIC that breaks a rule of the log, and expects damaged memory: the payloads
/// of the backlog are not what the peer sent. That the guest merely stands still proves nothing;
/// if it cannot read its backlog, the move is tried again. All other failures are final.
fn noticed(sabotage: &str) -> Result<()> {
    let start = || {
        let lab = Lab::for_test(2, Backend::Iommufd, &["--sabotage", sabotage])?;
        Journey::start(lab, &[0], Load::default())
    };
    let test = |journey: &mut Journey| {
        let migration = journey.attempt(&[1], &Plan::default(), false)?;
        ensure!(migration.completed(), "{migration:?}");
        Ok(())
    };
    let mut silent = String::new();
    for _ in 0..2 {
        let verdict = match survive(start, test, Journey::hear)? {
            Heard::Verdict(verdict) => verdict,
            Heard::Nothing(e) => {
                silent = format!("{e:#}");
                println!("the guest cannot say what it saw: {silent}");
                continue;
            }
        };
        ensure!(
            !verdict.memory.passed(),
            "a NIC with {sabotage} left the memory whole: {}",
            verdict.problems()
        );
        println!("noticed: {}", verdict.problems());
        return Ok(());
    }
    bail!("the guest never said what it saw: {silent}")
}

/// Sabotage `drop-log-entry`: every third entry is not posted.
#[test]
fn dropped_log_entries_turn_the_oracle_red() -> Result<()> {
    noticed("drop-log-entry=3")
}

/// Sabotage `filter-not-cleared`: what was logged once is never logged again.
#[test]
fn a_filter_that_is_not_cleared_turns_the_oracle_red() -> Result<()> {
    noticed("filter-not-cleared=1")
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
