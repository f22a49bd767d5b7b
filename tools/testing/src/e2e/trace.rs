// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Reads a source QEMU's trace: what the NIC reported in each round, what the
//! device state weighed, how long each state took. Pure.

use serde::Serialize;

/// One synchronisation of the dirty bitmaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Round {
    /// When it began, ms since 1970 by the box's clock.
    pub at_ms: u64,
    /// Pages that only the NIC's log reported: its DMA.
    pub nic_pages: u64,
    /// All pages that this round found dirty, the processor's included.
    pub all_pages: u64,
    /// Requests for a dirty bitmap, one for each section of memory.
    pub queries: u64,
}

/// Time that a device spent in one migration state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Device, as `vf0`.
    pub device: String,
    /// State, as `PRE_COPY`.
    pub state: String,
    /// When it was entered, ms since 1970 by the box's clock.
    pub from_ms: u64,
    /// How long it lasted, 0 for the last one.
    pub ms: u64,
    /// Device state bytes that QEMU read in it.
    pub bytes: u64,
}

/// Times of one migration, ms since 1970 by the box's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The second bitmap was asked for: all memory had been sent once.
    pub second_bitmap: u64,
    /// The last bitmap of pre-copy was asked for.
    pub last_bitmap: u64,
    /// The first device left PRE_COPY: no DMA any more.
    pub suspended: u64,
}

/// What the trace of one migration says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Rounds, in order; the first sweep and the one in the stopped machine included.
    pub rounds: Vec<Round>,
    /// Phases of all devices, in order.
    pub phases: Vec<Phase>,
    /// Statuses of the migration with their times.
    pub statuses: Vec<(String, u64)>,
}

impl Trace {
    /// Reads the last migration in `text` that QEMU was the source of.
    pub fn parse(text: &str) -> Self {
        let mut trace = Self::default();
        let mut round: Option<Round> = None;
        for line in text.lines() {
            let Some((at_ms, event, rest)) = split(line) else {
                continue;
            };
            match event {
                "migrate_set_state" => {
                    let state = rest.trim_start_matches("new state ").trim();
                    if state == "setup" {
                        trace = Self::default();
                    }
                    trace.statuses.push((state.to_owned(), at_ms));
                }
                "migration_bitmap_sync_start" => {
                    round = Some(Round {
                        at_ms,
                        ..Round::default()
                    })
                }
                "vfio_container_query_dirty_bitmap" => {
                    // Outside a round it is an unmap, which asks once more.
                    let round = round.get_or_insert_with(|| Round {
                        at_ms,
                        ..Round::default()
                    });
                    round.queries += 1;
                    round.nic_pages += field(rest, "dirty_pages=").unwrap_or(0);
                }
                "migration_bitmap_sync_end" => {
                    let mut round = round.take().unwrap_or_default();
                    round.all_pages = field(rest, "dirty_pages ")
                        .unwrap_or(0)
                        .max(round.nic_pages);
                    trace.rounds.push(round);
                }
                "vfio_migration_set_device_state" => {
                    if let Some((device, state)) = device(rest) {
                        trace.enter(device, state.trim_start_matches("state ").trim(), at_ms);
                    }
                }
                "vfio_save_block" => {
                    let Some((device, rest)) = device(rest) else {
                        continue;
                    };
                    let bytes = field(rest, "data_size ").unwrap_or(0);
                    if let Some(phase) = trace.phases.iter_mut().rev().find(|p| p.device == device)
                    {
                        phase.bytes += bytes;
                    }
                }
                _ => (),
            }
        }
        trace
    }

    fn enter(&mut self, device: &str, state: &str, at_ms: u64) {
        let last = self.phases.iter_mut().rev().find(|p| p.device == device);
        if let Some(last) = last {
            if last.state == state {
                return;
            }
            last.ms = at_ms.saturating_sub(last.from_ms);
        }
        self.phases.push(Phase {
            device: device.to_owned(),
            state: state.to_owned(),
            from_ms: at_ms,
            ms: 0,
            bytes: 0,
        });
    }

    /// Where only the NIC's log can name a page: `None` without two bitmaps before the suspension.
    pub fn window(&self) -> Option<Window> {
        let suspended = self
            .phases
            .iter()
            .find(|p| p.state != "PRE_COPY" && p.state != "RUNNING")
            .map(|p| p.from_ms)?;
        let before = self.rounds.iter().filter(|r| r.at_ms <= suspended);
        let times: Vec<u64> = before.map(|r| r.at_ms).collect();
        Some(Window {
            second_bitmap: *times.get(1)?,
            last_bitmap: *times.last()?,
            suspended,
        })
    }

    /// Device state bytes of all devices read in states whose name starts with `state`.
    pub fn bytes_in(&self, state: &str) -> u64 {
        self.phases
            .iter()
            .filter(|p| p.state.starts_with(state))
            .map(|p| p.bytes)
            .sum()
    }

    /// Time that the slowest device spent in `state`, in milliseconds.
    pub fn ms_in(&self, state: &str) -> u64 {
        self.phases
            .iter()
            .filter(|p| p.state == state)
            .map(|p| p.ms)
            .max()
            .unwrap_or(0)
    }

    /// Time between two statuses of the migration.
    pub fn between(&self, from: &str, to: &str) -> Option<u64> {
        let at = |name: &str| {
            self.statuses
                .iter()
                .find(|(s, _)| s == name)
                .map(|(_, at)| *at)
        };
        at(to)?.checked_sub(at(from)?)
    }
}

/// `2026-11-21T12:08:38.222169Z event rest`.
pub(super) fn split(line: &str) -> Option<(u64, &str, &str)> {
    let (us, event, rest) = split_us(line)?;
    Some((us / 1000, event, rest))
}

/// [`split`] with microseconds. QEMU 10.0 has `296@1796078672.172364:event rest` instead.
pub(super) fn split_us(line: &str) -> Option<(u64, &str, &str)> {
    let (us, rest) = match line.split_once('@') {
        Some((process, rest)) if process.bytes().all(|b| b.is_ascii_digit()) => {
            let (time, rest) = rest.split_once(':')?;
            let (seconds, us) = time.split_once('.')?;
            let seconds: u64 = seconds.parse().ok()?;
            (seconds * 1_000_000 + us.parse::<u64>().ok()?, rest)
        }
        _ => {
            let (time, rest) = line.split_once(' ')?;
            let time = humantime::parse_rfc3339(time).ok()?;
            let us = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_micros();
            (u64::try_from(us).ok()?, rest)
        }
    };
    let (event, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((us, event, rest))
}

/// ` (vf0) rest`.
pub(super) fn device(rest: &str) -> Option<(&str, &str)> {
    let (name, rest) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    Some((name, rest.trim_start()))
}

/// The number behind `name`.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let rest = &text[text.find(name)? + name.len()..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
2026-11-21T12:00:00.000000Z migrate_set_state new state setup
2026-11-21T12:00:00.100000Z migration_bitmap_sync_start 
2026-11-21T12:00:00.110000Z vfio_container_query_dirty_bitmap iova=0x0 size=0xc3000 backend_flag=0x0 bitmap_size=0x18 gpa=0x0 dirty_pages=2
2026-11-21T12:00:00.120000Z vfio_container_query_dirty_bitmap iova=0x100000 size=0xff00000 backend_flag=0x0 bitmap_size=0x2000 gpa=0x0 dirty_pages=40
2026-11-21T12:00:00.200000Z migration_bitmap_sync_end dirty_pages 100
2026-11-21T12:00:00.300000Z vfio_migration_set_device_state  (vf0) state PRE_COPY
2026-11-21T12:00:00.300100Z vfio_migration_set_state  (vf0) new state PRE_COPY, recover state RUNNING
2026-11-21T12:00:00.400000Z migrate_set_state new state active
2026-11-21T12:00:01.000000Z vfio_save_block  (vf0) data_size 1000
2026-11-21T12:00:02.300000Z vfio_migration_set_device_state  (vf0) state STOP_COPY
not a trace line
2026-11-21T12:00:02.400000Z vfio_save_block  (vf0) data_size 234
2026-11-21T12:00:02.500000Z vfio_migration_set_device_state  (vf0) state STOP
2026-11-21T12:00:02.600000Z migrate_set_state new state completed
";

    #[test]
    fn the_window_of_the_log_is_between_the_second_bitmap_and_the_suspension() {
        let phase = |state: &str, from_ms| Phase {
            device: "vf0".into(),
            state: state.into(),
            from_ms,
            ms: 0,
            bytes: 0,
        };
        let round = |at_ms| Round {
            at_ms,
            ..Round::default()
        };
        let mut trace = Trace {
            rounds: [10, 20, 30, 45].map(round).to_vec(),
            phases: vec![
                phase("PRE_COPY", 5),
                phase("PRE_COPY_P2P", 40),
                phase("STOP_COPY", 42),
            ],
            statuses: vec![],
        };
        let window = Window {
            second_bitmap: 20,
            last_bitmap: 30,
            suspended: 40,
        };
        assert_eq!(trace.window(), Some(window));
        trace.rounds.drain(1..3);
        assert_eq!(
            trace.window(),
            None,
            "the second bitmap is that of the stopped machine"
        );
    }

    #[test]
    fn a_migration() {
        let trace = Trace::parse(TEXT);
        assert_eq!(trace.rounds.len(), 1);
        assert_eq!(
            (
                trace.rounds[0].nic_pages,
                trace.rounds[0].all_pages,
                trace.rounds[0].queries
            ),
            (42, 100, 2)
        );
        assert_eq!(
            (trace.bytes_in("PRE_COPY"), trace.bytes_in("STOP_COPY")),
            (1000, 234)
        );
        assert_eq!(
            (trace.ms_in("PRE_COPY"), trace.ms_in("STOP_COPY")),
            (2000, 200)
        );
        assert_eq!(trace.between("active", "completed"), Some(2200));
    }

    #[test]
    fn the_trace_of_qemu_10_is_read_as_well() {
        let line = "296@1796078672.172364:migration_bitmap_sync_end dirty_pages 488";
        let read = (
            1_796_078_672_172,
            "migration_bitmap_sync_end",
            "dirty_pages 488",
        );
        assert_eq!(split(line), Some(read));
        assert_eq!(
            split("x@1796078672.172364:migration_bitmap_sync_end "),
            None
        );
        let text = "296@1796078672.500000:migration_bitmap_sync_start \n\
                    296@1796078672.600000:vfio_get_dirty_bitmap iova=0x0 dirty_pages=7\n\
                    296@1796078672.700000:migration_bitmap_sync_end dirty_pages 8\n";
        let rounds = Trace::parse(text).rounds;
        assert_eq!(
            (rounds[0].at_ms, rounds[0].all_pages),
            (1_796_078_672_500, 8)
        );
    }

    #[test]
    fn the_last_attempt_counts() {
        let twice = [TEXT, TEXT].concat();
        assert_eq!(Trace::parse(&twice), Trace::parse(TEXT));
        assert_eq!(Trace::parse(""), Trace::default());
    }
}
