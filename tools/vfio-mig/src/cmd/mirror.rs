// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `mirror`: a virtio-net function is migrated under traffic, and all memory compared.

use std::{
    cell::Cell,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{bail, ensure, Context, Result};

use super::mirrored::Mirrored;
use crate::{
    device::{Backend, Device},
    discover::{two_devices, Sysfs},
    mirror::{
        cloud::Shape,
        frames::Addresses,
        interrupt, layout,
        memory::{HugePages, Memory},
        migrate::{migrate, Reboot},
        plan::{Cancel, End, Ended, Plan},
        traffic::{Doorbells, Guest, Settings},
        transport::{Features, VirtioPci, NO_VECTOR},
    },
    node::Node,
    output::Ui,
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

    /// Seconds that they may take.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,

    /// Echo requests on their way at one time: at most what the peer's socket buffer holds.
    /// Few of them let a slow function receive between its sends.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=64))]
    window: u16,

    /// Pages of a receive buffer. One write of the function to a buffer of several pages is one entry of
    /// the log for all of them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    buffer_pages: u32,

    /// Granule of the log to ask for, a power of two; the device chooses. It is reported in pages of
    /// 4 KiB all the same.
    #[arg(long, default_value = "4K", value_parser = crate::range::parse_page_size)]
    page_size: u64,

    /// Pages of 4 KiB for which one REPORT asks, so that it may begin and end within a granule of the
    /// log; a whole range of memory by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    report_pages: Option<u64>,

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

    /// Give the receive queue an interrupt. One that was raised just before the stop may not have reached
    /// the driver, so after each move the function has to raise one by itself.
    #[arg(long)]
    interrupt: bool,

    /// Before each migration begin one that is given up there; the guest has to go on at the source.
    /// May be repeated.
    #[arg(long, value_enum)]
    cancel: Vec<Cancel>,

    /// A call that fails ends its migration only: the guest has to go on at the source, and if that
    /// had to be reset, it is set up anew.
    #[arg(long)]
    carry_on: bool,

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
    ensure!(
        args.cancel.is_empty() || args.shape == Shape::Qemu,
        "--cancel follows the calls of QEMU only"
    );
    ensure!(
        args.report_pages.is_none() || args.shape == Shape::Qemu,
        "--report-pages follows the calls of QEMU only"
    );
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

    let guests = Cell::new(0);
    let set_up = |device: &Device, memory: &Arc<Memory>| -> Result<(Guest, Doorbells)> {
        let function = VirtioPci::new(device)
            .with_context(|| format!("{} is not a virtio-net function", device.node().name))?;
        let addresses = Addresses {
            mac: [0; 6],
            ip: args.address,
            peer_ip: args.peer,
            peer_mac: None,
        };
        let settings = Settings {
            // A number of its own: answers to the one before it may be on their way.
            seed: seed.wrapping_add(guests.replace(guests.get() + 1)),
            window: args.window.into(),
            buffer_pages: args.buffer_pages,
            features: args.features,
            vector: match args.interrupt {
                true => interrupt::VECTOR,
                false => NO_VECTOR,
            },
        };
        let mut guest = Guest::new(&function, Arc::clone(memory), addresses, settings)?;
        let bells = Doorbells::of(&function, &guest)?;
        guest.find_peer(device, &bells)?;
        Ok((guest, bells))
    };
    let _event = match args.interrupt {
        true => Some(interrupt::connect(&devices[0])?),
        false => None,
    };
    let (mut guest, mut bells) = set_up(&devices[0], &memories[0])?;

    let plan = Plan {
        rounds: args.rounds,
        interval: Duration::from_millis(args.interval),
        settle: Duration::from_millis(args.settle),
        replies: args.replies,
        patience: Duration::from_secs(args.patience),
        page_size: args.page_size,
        report_pages: args.report_pages,
        late_ranges: args.late_ranges,
        interrupt: args.interrupt,
        shape: args.shape,
        cancel: None,
        carry_on: args.carry_on,
    };
    let (mut migrations, mut stays) = (Vec::new(), Vec::new());
    // The guest is at the first function after an even number of moves.
    let mut at = 0_usize;
    let points = args.cancel.iter().copied().map(Some).chain([None]);
    for cancel in (0..args.cycles).flat_map(|_| points.clone()) {
        let end = |at: usize| End {
            device: &devices[at % 2],
            memory: Arc::clone(&memories[at % 2]),
        };
        let (from, to) = (end(at), end(at + 1));
        let reboot = || {
            from.device.reset().context("resetting the source")?;
            set_up(from.device, &from.memory)
        };
        let reboot: Option<&Reboot<'_>> = if args.reset { Some(&reboot) } else { None };
        let plan = Plan { cancel, ..plan };
        let (ended, next) = migrate(&from, &to, (&mut guest, &bells), &plan, ui, reboot)?;
        bells = next;
        let passed = match ended {
            Ended::Moved(migration) => {
                at += 1;
                migrations.push(migration);
                migrations.last().is_some_and(|m| m.passed())
            }
            Ended::Stayed(stay) => {
                if !stay.orderly {
                    (guest, bells) = set_up(from.device, &from.memory)?;
                }
                stays.push(stay);
                stays.last().is_some_and(|s| s.problems.is_empty())
            }
        };
        if !passed {
            break;
        }
    }
    let end = (devices[0].backend(), &*memories[0], seed);
    Ok(Mirrored::new(end, migrations, stays, guest.counters()))
}
