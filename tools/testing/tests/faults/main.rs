// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each operation of the uAPI while the NIC misbehaves towards its driver (contract S5, S8, S10, S12, L18):
//! what comes out, and that nothing stays. `Documentation/faults.rst` is what this observes.

mod cases;
mod lane;
mod limits;
mod operation;
mod table;

use std::{
    env,
    sync::{
        atomic::{AtomicUsize, Ordering},
        Mutex, PoisonError,
    },
};

use anyhow::{anyhow, ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig};

use cases::{way_back, KINDS, ROWS, SPECIALS};
use lane::Lane;
use limits::TIMEOUT_MS;
use operation::Operation;
use table::Observed;

/// NICs that work beside each other, and one without P2P.
const LANES: usize = 3;
const WITHOUT_P2P: usize = LANES;

/// Set by the layer `debug` to the number of cells that it has time for; see [`Case::chosen`].
const CELLS: &str = "DLR_FAULT_CELLS";

/// One fault of one operation.
#[derive(Clone, Copy, Debug)]
enum Case {
    Matrix(usize, usize),
    Special(usize),
}

impl Case {
    /// All that apply.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (r, row) in ROWS.iter().enumerate() {
            for (k, kind) in KINDS.iter().enumerate() {
                let applies = match row.command {
                    // What needs no command cannot suffer: once is enough.
                    None => k == 0,
                    Some(command) => !kind.both_ways || way_back(row.operation, command).is_some(),
                };
                if applies {
                    all.push(Self::Matrix(r, k));
                }
            }
        }
        all.extend((0..SPECIALS.len()).map(Self::Special));
        all
    }

    /// As many as the variable [`CELLS`] says, at equal distances, and all without it.
    fn chosen() -> Result<Vec<Self>> {
        let all = Self::all();
        let Some(number) = env::var_os(CELLS) else {
            return Ok(all);
        };
        let number = number.to_str().and_then(|n| n.parse().ok()).unwrap_or(0);
        ensure!(
            (1..=all.len()).contains(&number),
            "{CELLS} has to be a number from 1 to {}",
            all.len()
        );
        Ok((0..number).map(|n| all[n * all.len() / number]).collect())
    }

    fn is_without_p2p(self) -> bool {
        match self {
            Self::Matrix(r, _) => ROWS[r].operation.is_without_p2p(),
            Self::Special(s) => SPECIALS[s].operation.is_without_p2p(),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Matrix(r, k) => format!(
                "{}, {} suffers \"{}\"",
                ROWS[r].operation.name(),
                ROWS[r].command.unwrap_or("nothing"),
                KINDS[k].name
            ),
            Self::Special(s) => format!("{}: {}", SPECIALS[s].operation.name(), SPECIALS[s].what),
        }
    }

    fn run(self, lane: &mut Lane<'_>) -> Result<String> {
        let seen = match self {
            Self::Matrix(r, k) => {
                let (row, kind) = (&ROWS[r], &KINDS[k]);
                let inflict = |lane: &Lane<'_>| {
                    let Some(command) = row.command else {
                        return Ok(());
                    };
                    lane.fault(command, &(kind.action)())?;
                    let back = way_back(row.operation, command).filter(|_| kind.both_ways);
                    back.map_or(Ok(()), |back| lane.fault(back, &(kind.action)()))
                };
                around(lane, row.operation, row.operation.reads_ahead(), inflict)?
            }
            Self::Special(s) => {
                let special = &SPECIALS[s];
                let early = special.before || special.operation.reads_ahead();
                around(lane, special.operation, early, |lane| {
                    let requests = (special.requests)();
                    requests.iter().try_for_each(|r| lane.nic(r).map(drop))
                })?
            }
        };
        lane.recover().with_context(|| format!("after {seen}"))?;
        Ok(seen)
    }
}

/// Prepares an operation, inflicts a fault before or after that, and does it.
fn around(
    lane: &mut Lane<'_>,
    operation: Operation,
    early: bool,
    inflict: impl Fn(&Lane<'_>) -> Result<()>,
) -> Result<String> {
    if early {
        inflict(lane)?;
    }
    operation.prepare(lane)?;
    if !early {
        // What the state begins by itself, as the reads of STOP_COPY, would add to the deadline of the
        // command that suffers.
        lane.host.until_none_in_flight(&lane.management)?;
        inflict(lane)?;
    }
    operation.run(lane)
}

/// Runs cases until none is left.
fn work(
    host: &HostBox,
    number: usize,
    cases: &[Case],
    next: &AtomicUsize,
    seen: &Mutex<Observed>,
) -> Result<()> {
    let mut lane = Lane::new(host, number)?;
    while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
        // One line: the summary of a run has no more of an error.
        let outcome = case.run(&mut lane);
        let outcome = outcome.map_err(|e| anyhow!("{}: {e:#}", case.name()));
        if outcome.is_err() {
            // The others need not go on.
            next.store(cases.len(), Ordering::Relaxed);
        }
        let outcome = outcome?;
        println!("{}: {outcome}", case.name());
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match case {
            Case::Matrix(r, k) => seen.matrix[r][k] = outcome,
            Case::Special(s) => seen.specials[s] = outcome,
        }
    }
    let slowest = lane.finish()?;
    println!("NIC {number}: the slowest call took {slowest:.0} ms");
    Ok(())
}

#[test]
fn every_fault_ends_as_documented() -> Result<()> {
    let chosen = Case::chosen()?;
    println!("{} cells of {}", chosen.len(), Case::all().len());
    let mut config = BoxConfig::for_test();
    for number in 0..=WITHOUT_P2P {
        let mut arguments = vec![format!("--cmd-timeout={TIMEOUT_MS}")];
        if number == WITHOUT_P2P {
            arguments.push("--without=p2p".into());
        }
        config = config.nic(NicConfig::new(1).args(arguments));
    }
    let host = HostBox::start(config)?;
    let (direct, usual): (Vec<_>, Vec<_>) = chosen.iter().partition(|c| c.is_without_p2p());
    let (next, next_direct, seen) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        Mutex::new(Observed {
            matrix: vec![vec![String::new(); KINDS.len()]; ROWS.len()],
            specials: vec![String::new(); SPECIALS.len()],
        }),
    );
    // Small buffers: even a small image takes several reads.
    host.load_driver("save_buffer_kib=4")?;
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..=WITHOUT_P2P)
            .map(|number| {
                let (cases, next) = match number {
                    WITHOUT_P2P => (&direct, &next_direct),
                    _ => (&usual, &next),
                };
                let (host, seen) = (&host, &seen);
                scope.spawn(move || work(host, number, cases, next, seen))
            })
            .collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().map_err(|_| anyhow!("a lane has panicked"))?)
    })?;
    let users = host.run("cat /sys/module/dlr_vfio_pci/refcnt")?;
    ensure!(
        users.trim() == "0",
        "{users} references to the module are left"
    );
    host.run("rmmod dlr_vfio_pci")?;
    host.finish()?;
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    if chosen.len() < Case::all().len() {
        return table::check_some(&seen);
    }
    table::check(&seen)
}
