// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What is varied when: all of it follows from the seed, and a boot from its number, so that it can
//! be had again without what came before it.

use super::{fault::Fault, random::Random};

/// Migrations of one boot of the kernel.
const BOOT: u32 = 250;

/// Migrations between loading and unloading the driver.
const LOAD: u32 = 25;

/// Points where a migration is given up, as `vfio-mig mirror` calls them.
pub(super) const POINTS: &[&str] = &["pre-copy", "p2p", "stop-copy", "reading", "saved"];

/// A soak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) migrations: u32,
    per_boot: u32,
    per_load: u32,
}

/// What happens between loading and unloading the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    /// The driver's `log_ring_order`.
    pub(super) ring_order: u8,
    /// The NIC can hold DMA back while the ring is full. If not, the ring overflows.
    pub(super) hold: bool,
    pub(super) steps: Vec<Step>,
}

/// One run of `vfio-mig mirror`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Migrations.
    pub(super) cycles: u32,
    /// Where others are given up before each of them.
    pub(super) cancels: Vec<&'static str>,
    pub(super) rounds: u32,
    /// Milliseconds between two rounds.
    pub(super) interval: u32,
    /// Requests on their way.
    pub(super) window: u32,
    /// Pages of a receive buffer.
    pub(super) buffer: u32,
    /// KiB of a granule.
    pub(super) granule: u32,
    pub(super) full_features: bool,
    pub(super) late_ranges: bool,
    pub(super) reset: bool,
    /// The calls of Cloud Hypervisor and not those of QEMU.
    pub(super) cloud: bool,
    pub(super) seed: u32,
    pub(super) faults: Vec<Fault>,
}

impl Schedule {
    /// So many migrations.
    pub(super) fn new(seed: u64, migrations: u32) -> Self {
        Self {
            seed,
            migrations,
            per_boot: BOOT,
            per_load: LOAD,
        }
    }

    /// As many migrations in one boot, a few for each load.
    pub(super) fn short(seed: u64, migrations: u32, load: u32) -> Self {
        Self {
            seed,
            migrations,
            per_boot: migrations.max(1),
            per_load: load.max(1),
        }
    }

    pub(super) fn boots(&self) -> u32 {
        self.migrations.div_ceil(self.per_boot)
    }

    /// Migrations before boot `number`.
    pub(super) fn before(&self, number: u32) -> u32 {
        number.saturating_mul(self.per_boot).min(self.migrations)
    }

    /// Boot `number`, from 0 on.
    pub(super) fn boot(&self, number: u32) -> Vec<Load> {
        let mut random = Random::new(self.seed, number.into());
        let mut left = (self.migrations - self.before(number)).min(self.per_boot);
        let mut loads = Vec::new();
        while left > 0 {
            let here = left.min(self.per_load);
            left -= here;
            loads.push(load(&mut random, here));
        }
        loads
    }
}

fn load(random: &mut Random, migrations: u32) -> Load {
    let (mut left, mut steps) = (migrations, Vec::new());
    while left > 0 {
        let mut step = step(random);
        step.cycles = step.cycles.min(left);
        left -= step.cycles;
        steps.push(step);
    }
    // A dead queue is not mended before the driver binds again.
    if let (true, Some(last)) = (random.chance(20), steps.last_mut()) {
        last.faults.push(Fault::stuck(random));
    }
    Load {
        ring_order: random.one(4, &[5, 6, 8, 10, 16]),
        hold: random.chance(50),
        steps,
    }
}

fn step(random: &mut Random) -> Step {
    let cloud = random.chance(20);
    let cancels = if cloud { 0 } else { random.below(3) };
    let faults = if random.chance(45) {
        1 + random.below(2)
    } else {
        0
    };
    Step {
        cycles: 1 + random.below(4),
        cancels: (0..cancels)
            .map(|_| random.one("pre-copy", POINTS))
            .collect(),
        rounds: random.below(5),
        interval: random.one(0, &[2, 5, 10, 30]),
        window: random.one(24, &[1, 2, 8, 48]),
        buffer: random.one(1, &[2, 3]),
        // The comparison of Cloud Hypervisor's calls asks with the granule of the log.
        granule: if cloud {
            4
        } else {
            random.one(4, &[4, 8, 16, 64])
        },
        full_features: random.chance(50),
        late_ranges: random.chance(15),
        reset: random.chance(10),
        cloud,
        seed: random.number() as u32,
        faults: (0..faults).map(|_| Fault::draw(random)).collect(),
    }
}

impl Step {
    /// May a call fail?
    pub(super) fn may_refuse(&self) -> bool {
        self.faults.iter().any(Fault::may_refuse)
    }

    /// The arguments of `vfio-mig`.
    pub(super) fn arguments(&self) -> String {
        let mut words = format!(
            "--json mirror 0000:00:01.0 0000:00:02.0 --carry-on --memory 8M --huge-pages never \
             --settle 20 --replies 50 --cycles {} --rounds {} --interval {} --window {} \
             --buffer-pages {} --page-size {}K --seed {}",
            self.cycles,
            self.rounds,
            self.interval,
            self.window,
            self.buffer,
            self.granule,
            self.seed
        );
        for point in &self.cancels {
            words += &format!(" --cancel {point}");
        }
        for (on, word) in [
            (self.full_features, " --features full"),
            (self.late_ranges, " --late-ranges"),
            (self.reset, " --reset"),
            (self.cloud, " --shape cloud-hypervisor"),
        ] {
            if on {
                words += word;
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn steps(loads: &[Load]) -> impl Iterator<Item = &Step> {
        loads.iter().flat_map(|load| &load.steps)
    }

    #[test]
    fn each_boot_can_be_had_alone_and_all_have_as_many_migrations_as_asked_for() {
        let schedule = Schedule::new(5, 3 * BOOT + 7);
        assert_eq!(schedule.boots(), 4);
        let all: Vec<_> = (0..4).map(|number| schedule.boot(number)).collect();
        let sum: u32 = all.iter().flat_map(|b| steps(b)).map(|s| s.cycles).sum();
        assert_eq!(sum, 3 * BOOT + 7);
        assert_eq!(Schedule::new(5, 2000).boot(2), all[2]);
        assert_ne!(Schedule::new(6, 2000).boot(2), all[2]);
        assert_ne!(all[1], all[2]);
    }

    #[test]
    fn everything_is_varied() {
        let schedule = Schedule::new(1, 1000);
        let loads: Vec<_> = (0..schedule.boots())
            .flat_map(|n| schedule.boot(n))
            .collect();
        let orders: BTreeSet<_> = loads.iter().map(|load| load.ring_order).collect();
        assert_eq!(orders.into_iter().collect::<Vec<_>>(), [4, 5, 6, 8, 10, 16]);
        assert!(loads.iter().any(|load| load.hold) && loads.iter().any(|load| !load.hold));
        let granules: BTreeSet<_> = steps(&loads).map(|step| step.granule).collect();
        assert_eq!(granules.into_iter().collect::<Vec<_>>(), [4, 8, 16, 64]);
        let points: BTreeSet<_> = steps(&loads).flat_map(|step| &step.cancels).collect();
        assert_eq!(points.len(), POINTS.len());
        for way in [
            |step: &Step| step.cloud,
            |step: &Step| step.reset,
            |step: &Step| step.late_ranges,
            |step: &Step| step.full_features,
            |step: &Step| step.faults.is_empty(),
            |step: &Step| step.may_refuse(),
        ] {
            assert!(steps(&loads).any(way) && !steps(&loads).all(way));
        }
    }

    #[test]
    fn the_queue_dies_only_before_the_driver_is_unloaded() {
        let schedule = Schedule::new(2, 1000);
        let mut dead = 0;
        for load in (0..schedule.boots()).flat_map(|n| schedule.boot(n)) {
            let at: Vec<_> = (0..load.steps.len())
                .filter(|n| {
                    load.steps[*n]
                        .faults
                        .iter()
                        .any(|f| f.kind() == "dead queue")
                })
                .collect();
            assert!(at.iter().all(|n| *n + 1 == load.steps.len()));
            dead += at.len();
        }
        assert!(dead > 0);
    }

    #[test]
    fn migrations_of_cloud_hypervisor_are_not_given_up_and_have_pages_of_4_kib() {
        let loads = Schedule::new(9, 250).boot(0);
        for step in steps(&loads).filter(|step| step.cloud) {
            assert!(step.cancels.is_empty() && step.granule == 4);
        }
    }

    #[test]
    fn arguments_say_all_of_it() {
        let step = Step {
            cycles: 2,
            cancels: vec!["p2p", "saved"],
            rounds: 3,
            interval: 5,
            window: 8,
            buffer: 2,
            granule: 64,
            full_features: true,
            late_ranges: false,
            reset: true,
            cloud: false,
            seed: 77,
            faults: Vec::new(),
        };
        let words = step.arguments();
        for part in [
            "--cycles 2",
            "--cancel p2p",
            "--cancel saved",
            "--rounds 3",
            "--interval 5",
            "--window 8",
            "--buffer-pages 2",
            "--page-size 64K",
            "--features full",
            "--reset",
            "--seed 77",
            "--carry-on",
        ] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("--late") && !words.contains("--shape"));
    }
}
