// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The report of `mirror`.

use serde::Serialize;

use crate::{
    device::Backend,
    mirror::{
        counters::Counters,
        memory::Memory,
        plan::{Migration, Stay},
    },
    output::{table, Report},
    range::human_size,
};

/// The report.
#[derive(Debug, Serialize)]
pub struct Mirrored {
    verdict: &'static str,
    backend: Backend,
    pages: u64,
    huge_pages: bool,
    seed: u64,
    lost_pages: u64,
    /// Rounds in which the log named everything.
    all_dirty_rounds: u64,
    migrations: Vec<Migration>,
    /// Migrations that were given up or refused.
    stays: Vec<Stay>,
    /// That of the last guest.
    traffic: Counters,
}

impl Mirrored {
    /// What came out of `migrations` and `stays`.
    pub(super) fn new(
        (backend, memory, seed): (Backend, &Memory, u64),
        migrations: Vec<Migration>,
        stays: Vec<Stay>,
        traffic: Counters,
    ) -> Self {
        let rounds = migrations.iter().map(|m| &m.rounds);
        let rounds = rounds.chain(stays.iter().map(|s| &s.rounds)).flatten();
        let mut report = Self {
            verdict: "PASS",
            backend,
            pages: memory.pages(),
            huge_pages: memory.is_huge(),
            seed,
            lost_pages: migrations.iter().map(|m| m.lost_pages).sum(),
            all_dirty_rounds: rounds.filter(|round| round.all_dirty).count() as u64,
            migrations,
            stays,
            traffic,
        };
        if !report.passed() {
            report.verdict = "FAIL";
        }
        report
    }
}

impl Report for Mirrored {
    fn passed(&self) -> bool {
        self.migrations.iter().all(Migration::passed)
            && self.stays.iter().all(|stay| stay.problems.is_empty())
    }

    fn human(&self) -> String {
        let mut text = String::new();
        for migration in &self.migrations {
            text += &human(migration);
        }
        for stay in &self.stays {
            text += &stayed(stay);
        }
        text += &format!(
            "traffic: {} requests, {} answers, {} missing, {} duplicate, {} corrupt\n",
            self.traffic.sent,
            self.traffic.received,
            self.traffic.missing,
            self.traffic.duplicates,
            self.traffic.corrupt
        );
        text += &format!(
            "{}: {} of {} pages lost in {} migrations (seed {})\n",
            self.verdict,
            self.lost_pages,
            self.pages,
            self.migrations.len(),
            self.seed
        );
        text
    }
}

fn human(migration: &Migration) -> String {
    let mut text = format!("{} -> {}\n", migration.from, migration.to);
    let head = [
        "round", "from log", "from CPU", "copied", "report", "state", "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (at, round) in migration.rounds.iter().enumerate() {
        let stopped = at + 1 == migration.rounds.len();
        rows.push(vec![
            round.round.to_string(),
            round.reported.to_string(),
            round.cpu.to_string(),
            round.copied.to_string(),
            format!("{} us", round.report_us),
            human_size(round.state_bytes),
            match (stopped, round.all_dirty) {
                (_, true) => "all dirty: the log had lost entries",
                (true, false) => "stopped",
                (false, false) => "",
            }
            .to_owned(),
        ]);
    }
    text += &table(&rows);
    text += &format!(
        "stopped for {:.1} ms; {} answers before, {} after\n",
        migration.stopped_ms, migration.replies_before, migration.replies_after
    );
    for lost in &migration.lost {
        text += &format!(
            "LOST {:#x}: {} bytes differ from offset {:#x} on ({})\n",
            lost.page.iova, lost.page.bytes, lost.page.first, lost.what
        );
    }
    let more = migration.lost_pages - migration.lost.len() as u64;
    if more > 0 {
        text += &format!("LOST and {more} more pages\n");
    }
    for problem in &migration.problems {
        text += &format!("PROBLEM {problem}\n");
    }
    text
}

fn stayed(stay: &Stay) -> String {
    let why = match (&stay.refused, stay.cancelled) {
        (Some(error), _) => error.clone(),
        (None, Some(point)) => format!("given up: {point:?}"),
        (None, None) => String::new(),
    };
    let way = if stay.orderly {
        format!("{} answers after", stay.replies_after)
    } else {
        "reset, and its driver set up anew".to_owned()
    };
    let mut text = format!("{} stays ({why}); {way}\n", stay.at);
    for problem in &stay.problems {
        text += &format!("PROBLEM {problem}\n");
    }
    text
}
