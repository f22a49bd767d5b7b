// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the time is made of for which a guest stands still, by the traces of both QEMUs. Pure.

use super::trace::split_us;

/// Microseconds of one stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// From the order to stop the processors until the guest runs in the destination.
    pub total: u64,
    /// Until processors and devices stand still.
    pub suspend: u64,
    /// The dirty bitmap is asked for once more.
    pub report: u64,
    /// The last pass over memory, that bitmap included.
    pub ram: u64,
    /// The rest of the devices' state is read, of those that are saved in parts.
    pub read: u64,
    /// All other devices of the machine are saved.
    pub others_saved: u64,
    /// The functions' state is loaded: what they had saved, and their configuration spaces.
    pub load: u64,
    /// The part of it for configuration spaces: BARs and interrupts are set up.
    pub config: u64,
    /// All other devices of the machine are loaded.
    pub others_loaded: u64,
    /// Until the processors run, from when everything is loaded.
    pub resume: u64,
    /// The part of it before the first function is told to run.
    pub before_run: u64,
}

impl Stop {
    /// Of the last migration in the traces of source and destination, whose clocks are the same.
    /// `None` if it did not complete.
    pub fn parse(source: &str, destination: &str) -> Option<Self> {
        let (start, before) = checkpoint(source, "src-downtime-start")?;
        let events = source.get(before..)?;
        let (stopped, _) = checkpoint(events, "src-vm-stopped")?;
        let (loaded, _) = checkpoint(destination, "dst-precopy-loadvm-completed")?;
        let (running, _) = checkpoint(destination, "dst-precopy-bh-vm-started")?;
        let mut stop = Self {
            total: running.checked_sub(start)?,
            suspend: stopped.checked_sub(start)?,
            resume: running.checked_sub(loaded)?,
            ..Self::default()
        };
        let mut asked = None;
        for (at, event, rest) in events.lines().filter_map(split_us) {
            match event {
                "migration_bitmap_sync_start" => asked = Some(at),
                "migration_bitmap_sync_end" => {
                    stop.report += asked.take().map_or(0, |from| at - from);
                }
                "vmstate_downtime_save" => match part(rest)? {
                    ("ram", us) => stop.ram += us,
                    (name, us) if is_passed_through(name) => stop.read += us,
                    (_, us) => stop.others_saved += us,
                },
                _ => (),
            }
        }
        let mut begun = None;
        for (at, event, rest) in destination.lines().filter_map(split_us) {
            match event {
                "vmstate_downtime_load" => match part(rest)? {
                    // What is left of it when the last page is sent; it was sent meanwhile.
                    ("ram", _) => (),
                    (name, us) if is_passed_through(name) => stop.load += us,
                    (_, us) => stop.others_loaded += us,
                },
                "vfio_load_device_config_state_start" => begun = Some(at),
                "vfio_load_device_config_state_end" => {
                    stop.config += begun.take().map_or(0, |from| at.saturating_sub(from));
                }
                // Traced before it happens, to RUNNING_P2P first.
                "vfio_migration_set_state" if at >= loaded && stop.before_run == 0 => {
                    stop.before_run = at.saturating_sub(loaded);
                }
                _ => (),
            }
        }
        Some(stop)
    }

    /// What lies between all that is told by itself: the way to the destination, and what QEMU does
    /// there and here besides.
    pub fn between(&self) -> u64 {
        let named = [
            self.suspend,
            self.report,
            self.read,
            self.others_saved,
            self.load,
            self.others_loaded,
            self.resume,
        ];
        self.without_memory()
            .saturating_sub(named.iter().sum::<u64>())
    }

    /// What is not the guest's memory.
    pub fn without_memory(&self) -> u64 {
        let pass = self.ram.saturating_sub(self.report);
        self.total.saturating_sub(pass)
    }
}

fn is_passed_through(name: &str) -> bool {
    name.ends_with("/vfio")
}

/// When the last checkpoint of this name was met, and where its line begins.
fn checkpoint(trace: &str, name: &str) -> Option<(u64, usize)> {
    let needle = format!("vmstate_downtime_checkpoint {name}");
    let at = trace.rfind(&needle)?;
    let line = trace.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let (us, _, _) = split_us(trace.get(line..)?.lines().next()?)?;
    Some((us, line))
}

/// `type=iterable idstr=NAME instance_id=0 downtime=US`: name and microseconds.
fn part(rest: &str) -> Option<(&str, u64)> {
    let (_, rest) = rest.split_once("idstr=")?;
    let (name, rest) = rest.split_once(" instance_id=")?;
    let (_, us) = rest.split_once("downtime=")?;
    Some((name, us.trim().parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
2026-11-21T12:00:00.000000Z vmstate_downtime_checkpoint src-downtime-start
2026-11-21T12:00:00.900000Z migration_bitmap_sync_start 
2026-11-21T12:00:01.000000Z vmstate_downtime_checkpoint src-downtime-start
2026-11-21T12:00:01.000030Z vmstate_downtime_checkpoint src-vm-stopped
2026-11-21T12:00:01.000040Z migration_bitmap_sync_start 
2026-11-21T12:00:01.000060Z migration_bitmap_sync_end dirty_pages 5
2026-11-21T12:00:01.000140Z vmstate_downtime_save type=iterable idstr=ram instance_id=0 downtime=100
2026-11-21T12:00:01.000190Z vmstate_downtime_save type=iterable idstr=0000:01:00.0/vfio instance_id=0 downtime=50
2026-11-21T12:00:01.000195Z vmstate_downtime_save type=non-iterable idstr=0000:01:00.0/vfio instance_id=0 downtime=5
2026-11-21T12:00:01.000200Z vmstate_downtime_save type=non-iterable idstr=timer instance_id=0 downtime=3
";
    const DESTINATION: &str = "\
2026-11-21T12:00:01.000200Z vmstate_downtime_load type=iterable idstr=ram instance_id=0 downtime=7
2026-11-21T12:00:01.000290Z vfio_load_device_config_state_start  (vf0)
2026-11-21T12:00:01.000295Z vfio_load_device_config_state_end  (vf0)
2026-11-21T12:00:01.000300Z vmstate_downtime_load type=iterable idstr=0000:01:00.0/vfio instance_id=0 downtime=60
2026-11-21T12:00:01.000310Z vmstate_downtime_load type=non-iterable idstr=timer instance_id=0 downtime=4
2026-11-21T12:00:01.000400Z vmstate_downtime_checkpoint dst-precopy-loadvm-completed
2026-11-21T12:00:01.000440Z vfio_migration_set_state  (vf0) new state RUNNING_P2P, recover state ERROR
2026-11-21T12:00:01.000470Z vfio_migration_set_state  (vf0) new state RUNNING, recover state ERROR
2026-11-21T12:00:01.000500Z vmstate_downtime_checkpoint dst-precopy-bh-vm-started
";

    #[test]
    fn the_last_stop_is_split() {
        let stop = Stop::parse(SOURCE, DESTINATION).unwrap();
        let expected = Stop {
            total: 500,
            suspend: 30,
            report: 20,
            ram: 100,
            read: 55,
            others_saved: 3,
            load: 60,
            config: 5,
            others_loaded: 4,
            resume: 100,
            before_run: 40,
        };
        assert_eq!(stop, expected);
        assert_eq!(stop.without_memory(), 420);
        assert_eq!(stop.between(), 420 - 30 - 20 - 55 - 3 - 60 - 4 - 100);
    }

    #[test]
    fn a_migration_that_did_not_complete_has_none() {
        let short = DESTINATION.replace("dst-precopy-bh-vm-started", "x");
        assert_eq!(Stop::parse(SOURCE, &short), None);
        assert_eq!(Stop::parse("", DESTINATION), None);
    }
}
