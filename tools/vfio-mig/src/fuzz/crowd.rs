// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls of several threads and of another process on one device. What comes when is not known, so
//! each call has a set of answers; GET may only show states on the way that a SET takes; and in the
//! end the device has to save and load as before.

use std::{
    fs::File,
    os::fd::BorrowedFd,
    sync::{
        atomic::{AtomicU64, Ordering::SeqCst},
        Mutex, PoisonError,
    },
    time::Duration,
};

use rand::{rngs::SmallRng, Rng, SeedableRng};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{
    has::Has,
    wrong::{OnFile, Wrong},
};
use crate::{
    bitmap::DirtyBitmap,
    check::{
        race::Latest,
        verdict::errno_name,
        walk::subject::{answer, Answer},
        ways,
    },
    state::{path, MigrationFlags, State},
    sys,
};

/// Threads of a crowd.
pub const THREADS: u64 = 4;

/// The range that is logged.
const RANGE: (u64, u64) = (1 << 30, 64 << 20);

/// Who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// `VFIO_MIGRATION_*` of the device.
    pub flags: u64,
    /// It has a log.
    pub logging: bool,
    /// Threads reset the device.
    pub resets: bool,
    /// Only the first thread sets states.
    pub lone: bool,
    /// Another process takes part.
    pub process: bool,
    /// It is killed after so many microseconds.
    pub killed: Option<u64>,
}

impl Rules {
    /// Draws them.
    pub fn draw(has: &Has, rng: &mut SmallRng) -> Self {
        let lone = rng.random_bool(0.4);
        let process = rng.random_bool(0.3);
        let delay = rng.random_range(0..30_000);
        Self {
            flags: has.flags.0,
            logging: has.logging,
            resets: !lone && has.reset && rng.random_bool(0.5),
            lone,
            process,
            killed: (process && rng.random()).then_some(delay),
        }
    }
}

/// What the threads of a crowd share.
#[derive(Default)]
pub struct Shared {
    latest: Latest,
    resets_begun: AtomicU64,
    resets_ended: AtomicU64,
    /// Number of changes, and the states that the device may be in, as bits.
    watch: Mutex<(u64, u32)>,
}

impl Shared {
    /// The device is RUNNING, and threads begin.
    pub fn begin(&self) {
        self.expect(bit(State::Running));
    }

    fn watch(&self) -> (u64, u32) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, states: u32) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        *watch = (watch.0 + 1, states);
    }

    /// Resets that have ended; `None` while one goes on.
    fn quiet(&self) -> Option<u64> {
        let ended = self.resets_ended.load(SeqCst);
        (self.resets_begun.load(SeqCst) == ended).then_some(ended)
    }
}

/// One thread of a crowd.
pub struct Member<'a> {
    /// The device.
    pub device: BorrowedFd<'a>,
    /// What may be done.
    pub rules: Rules,
    /// What the threads of this process share.
    pub shared: &'a Shared,
    /// A good stream.
    pub image: &'a [u8],
    /// Is it the one that sets states, if only one does?
    pub first: bool,
    /// State that the device is in, for the one that alone sets states.
    pub state: State,
}

fn bit(state: State) -> u32 {
    1 << state as u32
}

fn judge<T>(what: &str, answer: &Answer<T>, allowed: &[Errno]) -> Result<(), String> {
    match answer {
        Err(errno) if !allowed.contains(errno) => {
            Err(format!("{what} failed with {}", errno_name(*errno)))
        }
        _ => Ok(()),
    }
}

impl Member<'_> {
    /// Makes so many calls.
    ///
    /// # Errors
    ///
    /// What was answered and should not have been.
    pub fn work(&mut self, seed: u64, calls: u64) -> Result<(), String> {
        let mut rng = SmallRng::seed_from_u64(seed);
        (0..calls).try_for_each(|_| self.call(&mut rng))
    }

    fn call(&mut self, rng: &mut SmallRng) -> Result<(), String> {
        let sets = !self.rules.lone || self.first;
        match rng.random_range(0..32) {
            0..=9 if sets => self.set(rng),
            10 if self.rules.resets => self.reset(),
            11..=16 if self.rules.logging => self.log(rng),
            17..=19 => self.get(),
            20 => judge("MIG_DATA_SIZE", &self.size(), &[]),
            21 => {
                let wrong = Wrong::draw(rng);
                // Whether the log is on is not known.
                let known = !wrong.is_log() || matches!(wrong, Wrong::Start(_) | Wrong::Report(_));
                let device = self.device;
                let has = self.has();
                if !known || wrong.is_log() && !has.logging {
                    return Ok(());
                }
                let answer = wrong.call(device);
                match wrong.wanted(&has, false).is(answer) {
                    true => Ok(()),
                    false => Err(format!("{wrong:?} gave {answer:?}")),
                }
            }
            _ => self.use_file(rng),
        }
    }

    fn has(&self) -> Has {
        Has {
            flags: MigrationFlags(self.rules.flags),
            logging: self.rules.logging,
            reset: self.rules.resets,
            registers: false,
        }
    }

    fn size(&self) -> Answer<u64> {
        use vfio_bindings::bindings::vfio as vb;
        let flags = vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_MIG_DATA_SIZE;
        answer(sys::feature(self.device, flags, 16, [0; 8])).map(|payload| payload[0])
    }

    fn state_now(&self) -> Answer<State> {
        use vfio_bindings::bindings::vfio as vb;
        let flags = vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE;
        let payload = answer(sys::feature(self.device, flags, 16, [0; 8]))?;
        State::try_from(payload[0] as u32).map_err(|_| Errno::INVAL)
    }

    fn set(&mut self, rng: &mut SmallRng) -> Result<(), String> {
        let number = self.has().state(rng);
        if !self.rules.lone {
            let answer = answer(sys::set_state(self.device, number));
            // A device that is reset under a SET may refuse it in many ways.
            if !self.rules.resets {
                judge(&format!("SET {number}"), &answer, &[Errno::INVAL])?;
            }
            if let Ok(Some(file)) = answer {
                self.shared.latest.put(file);
            }
            return Ok(());
        }
        let from = self.state;
        let flags = MigrationFlags(self.rules.flags);
        let to = State::try_from(number).ok();
        let hops = to.and_then(|to| path(flags, from, to));
        let way = hops
            .iter()
            .flatten()
            .fold(bit(from), |all, state| all | bit(*state));
        self.shared.expect(way);
        let answer = answer(sys::set_state(self.device, number));
        let now = self
            .state_now()
            .map_err(|e| format!("GET failed with {}", errno_name(e)))?;
        self.state = now;
        self.shared.expect(bit(now));
        let well = match &answer {
            Ok(_) => hops.is_some() && Some(now) == to,
            // Others write to the files of RESUMING.
            Err(Errno::INVAL) if from == State::Resuming => way & bit(now) != 0,
            Err(Errno::INVAL) => hops.is_none() && now == from,
            Err(_) => false,
        };
        if let Ok(Some(file)) = answer {
            self.shared.latest.put(file);
            return well
                .then_some(())
                .ok_or(format!("SET {number} in {from} led to {now}"));
        }
        let seen = answer.map(drop).map_err(errno_name);
        well.then_some(()).ok_or(format!(
            "SET {number} in {from} gave {seen:?} and led to {now}"
        ))
    }

    fn get(&self) -> Result<(), String> {
        let (quiet, before) = (self.shared.quiet(), self.shared.watch());
        let state = self.state_now();
        judge("GET", &state, &[])?;
        let (after, still) = (self.shared.watch(), self.shared.quiet());
        let Ok(state) = state else { return Ok(()) };
        // An arc that is undone while the device is being reset may not know where the device is.
        // It ends in ERROR, until the end of that reset makes it RUNNING: a SET that failed and a
        // reset after it, one by one, look the same. Another process may reset it, too, and then
        // nothing is known here.
        let known = !self.rules.resets || !self.rules.process && quiet.is_some() && quiet == still;
        if state == State::Error && known {
            return Err("GET says ERROR without a reset".into());
        }
        let near = after.0 - before.0 <= 1;
        if self.rules.lone && before.0 != 0 && near && (before.1 | after.1) & bit(state) == 0 {
            return Err(format!("GET says {state}, which is not on the way"));
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), String> {
        self.shared.resets_begun.fetch_add(1, SeqCst);
        let answer = answer(sys::reset(self.device));
        self.shared.resets_ended.fetch_add(1, SeqCst);
        judge("VFIO_DEVICE_RESET", &answer, &[Errno::AGAIN])
    }

    fn log(&self, rng: &mut SmallRng) -> Result<(), String> {
        use vfio_bindings::bindings::vfio as vb;
        match rng.random_range(0..4) {
            0 => {
                let page_size = 4096 << rng.random_range(0..4);
                let start = answer(sys::log_start(self.device, page_size, &[RANGE]));
                judge("START", &start, &[Errno::INVAL])
            }
            1 => {
                let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
                let stop = answer(sys::feature(self.device, flags, 8, [0; 8]));
                judge("STOP", &stop, &[])
            }
            _ => {
                let mut bitmap = DirtyBitmap::new(RANGE.1 >> 12);
                let (iova, length) = RANGE;
                let words = bitmap.words_mut();
                let report = answer(sys::log_report(self.device, iova, length, 4096, words));
                // A driver may give a log up that a reset has ended, or whose report was killed.
                let either = [Errno::INVAL, Errno::IO];
                let given_up = self.rules.resets || self.rules.killed.is_some();
                let allowed = either.get(..1 + usize::from(given_up));
                judge("REPORT", &report, allowed.unwrap_or_default())
            }
        }
    }

    fn use_file(&self, rng: &mut SmallRng) -> Result<(), String> {
        let Some(file) = self.shared.latest.get() else {
            std::thread::yield_now();
            return Ok(());
        };
        let file: &File = &file;
        match rng.random_range(0..16) {
            0..=6 => {
                let mut buffer = vec![0; rng.random_range(1..20_000)];
                let read = rustix::io::read(file, &mut buffer);
                let allowed = [
                    Errno::NODEV,
                    Errno::NOMSG,
                    Errno::BADF,
                    Errno::INTR,
                    Errno::AGAIN,
                ];
                judge("read()", &read, &allowed)
            }
            7..=10 => {
                let from = rng.random_range(0..self.image.len().max(1));
                let bytes = rng.random_range(1..5000);
                let part = self.image.get(from..).unwrap_or_default();
                let part = part.get(..bytes).unwrap_or(part);
                let write = rustix::io::write(file, part);
                let refused = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOMEM];
                let ended = [Errno::BADF, Errno::NODEV, Errno::INTR, Errno::AGAIN];
                judge("write()", &write, &[refused.as_slice(), &ended].concat())
            }
            11 | 12 => {
                let info = answer(sys::precopy_info(file));
                let allowed = [Errno::INVAL, Errno::NODEV, Errno::NOTTY];
                judge("PRECOPY_INFO", &info, &allowed)
            }
            13 => judge("poll()", &answer(ways::poll(file, Duration::ZERO)), &[]),
            _ => {
                let call = OnFile::draw(rng);
                let answer = call.call(file);
                let fits = |resuming| call.wanted(resuming, false).is(answer);
                match fits(true) || fits(false) {
                    true => Ok(()),
                    false => Err(format!("{call:?} gave {answer:?}")),
                }
            }
        }
    }
}
