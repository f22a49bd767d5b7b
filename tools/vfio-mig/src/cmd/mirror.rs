// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `mirror`: a virtio-net function is migrated under traffic, and all memory compared.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{bail, ensure, Context, Result};
use serde::Serialize;

use crate::{
    device::{Backend, Device},
    discover::{two_devices, Sysfs},
    mirror::{
        cloud::Shape,
        frames::Addresses,
        layout,
        memory::{HugePages, Memory},
        migrate::{migrate, Reboot},
        plan::{End, Migration, Plan},
        traffic::{Counters, Doorbells, Guest},
        transport::{Features, VirtioPci},
    },
    node::Node,
    output::{table, Report, Ui},
    range::human_size,
    session::Migratable,
};

/// Arguments of `mirror`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The virtio-net function to start with.
    source: String,

    /// The function to move to.
    target: String,

    /// Memory of the virtual machine; a multiple of 8 MiB.
    #[arg(long, default_value = "32M", value_parser = crate::range::parse_size)]
    memory: u64,

    /// 2 MiB pages for it.
    #[arg(long, value_enum, default_value_t = HugePages::Auto)]
    huge_pages: HugePages,

    /// Rounds of pre-copy under traffic.
    #[arg(long, default_value_t = 8)]
    rounds: u32,

    /// Milliseconds between two rounds.
    #[arg(long, default_value_t = 100)]
    interval: u64,

    /// Milliseconds between the last copy and the comparison.
    #[arg(long, default_value_t = 200)]
    settle: u64,

    /// Migrations: there, back again, and so on.
    #[arg(long, default_value_t = 1)]
    cycles: u32,

    /// Answers that have to come after each move.
    #[arg(long, default_value_t = 200)]
    replies: u64,

    /// Echo requests on their way at one time: at most what the peer's socket buffer holds.
    /// Few of them let a slow function receive between its sends.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=64))]
    window: u16,

    /// Granule of the log to ask for, a power of two; the device chooses. It is reported in pages of
    /// 4 KiB all the same.
    #[arg(long, default_value = "4K", value_parser = crate::range::parse_page_size)]
    page_size: u64,

    /// Whose order of calls to follow.
    #[arg(long, value_enum, default_value_t = Shape::Qemu)]
    shape: Shape,

    /// Features of virtio-net to agree on.
    #[arg(long, value_enum, default_value_t = Features::Basic)]
    features: Features,

    /// Name only the first range of memory to DMA_LOGGING_START; REPORT asks for all, as a VMM does
    /// whose memory grows.
    #[arg(long)]
    late_ranges: bool,

    /// Reset the function after DMA_LOGGING_START, as a VMM does whose guest reboots: the log has to go
    /// on.
    #[arg(long)]
    reset: bool,

    /// Address of the virtual machine.
    #[arg(long, default_value = "10.9.0.2")]
    address: Ipv4Addr,

    /// A host on the function's network with a UDP echo service.
    #[arg(long, default_value = "10.9.0.1")]
    peer: Ipv4Addr,

    /// Decides the order of buffers and the lengths of frames; the clock by default.
    #[arg(long)]
    seed: Option<u64>,
}

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
    traffic: Counters,
}

impl Report for Mirrored {
    fn passed(&self) -> bool {
        self.migrations.iter().all(Migration::passed)
    }

    fn human(&self) -> String {
        let mut text = String::new();
        for migration in &self.migrations {
            text += &human(migration);
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

fn open(node: &Node, backend: Backend) -> Result<Device> {
    let device = Device::open(node, backend)?;
    let name = &device.node().name;
    if !device.flags().stop_copy() {
        bail!("{name} cannot be migrated; see `vfio-mig info {name}`");
    }
    ensure!(device.has_logging(), "{name} has no DMA logging");
    Ok(device)
}

/// Migrates under traffic and compares.
///
/// # Errors
///
/// Something could not be done at all; what the comparison finds is in the report.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<Mirrored> {
    let ranges = layout::ranges(args.memory)?;
    let seed = args.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.map_or(1, |time| time.as_nanos() as u64)
    });
    let [source, target] = two_devices(&Sysfs::default(), &args.source, &args.target)?;
    let devices = [open(&source, backend)?, open(&target, backend)?];
    let memories = [
        Arc::new(Memory::new(&ranges, args.huge_pages)?),
        Arc::new(Memory::new(&ranges, args.huge_pages)?),
    ];
    // Dropped before the devices, whose address spaces they belong to.
    let _mappings = [memories[0].map(&devices[0])?, memories[1].map(&devices[1])?];

    let set_up = |device: &Device, memory: &Arc<Memory>| -> Result<(Guest, Doorbells)> {
        let function = VirtioPci::new(device)
            .with_context(|| format!("{} is not a virtio-net function", device.node().name))?;
        let addresses = Addresses {
            mac: [0; 6],
            ip: args.address,
            peer_ip: args.peer,
            peer_mac: None,
        };
        let (memory, window) = (Arc::clone(memory), args.window.into());
        let mut guest = Guest::new(&function, memory, addresses, seed, window, args.features)?;
        let bells = Doorbells::of(&function, &guest)?;
        guest.find_peer(device, &bells)?;
        Ok((guest, bells))
    };
    let (mut guest, mut bells) = set_up(&devices[0], &memories[0])?;

    let plan = Plan {
        rounds: args.rounds,
        interval: Duration::from_millis(args.interval),
        settle: Duration::from_millis(args.settle),
        replies: args.replies,
        page_size: args.page_size,
        late_ranges: args.late_ranges,
        shape: args.shape,
    };
    let mut migrations = Vec::new();
    for cycle in 0..args.cycles as usize {
        let end = |at: usize| End {
            device: &devices[at % 2],
            memory: Arc::clone(&memories[at % 2]),
        };
        let (from, to) = (end(cycle), end(cycle + 1));
        let reboot = || {
            from.device.reset().context("resetting the source")?;
            set_up(from.device, &from.memory)
        };
        let reboot: Option<&Reboot<'_>> = if args.reset { Some(&reboot) } else { None };
        let (migration, next) = migrate(&from, &to, (&mut guest, &bells), &plan, ui, reboot)?;
        bells = next;
        let failed = !migration.passed();
        migrations.push(migration);
        if failed {
            break;
        }
    }
    let mut report = Mirrored {
        verdict: "PASS",
        backend: devices[0].backend(),
        pages: memories[0].pages(),
        huge_pages: memories[0].is_huge(),
        seed,
        lost_pages: migrations.iter().map(|m| m.lost_pages).sum(),
        all_dirty_rounds: migrations
            .iter()
            .flat_map(|m| &m.rounds)
            .filter(|round| round.all_dirty)
            .count() as u64,
        migrations,
        traffic: guest.counters(),
    };
    if !report.passed() {
        report.verdict = "FAIL";
    }
    Ok(report)
}
