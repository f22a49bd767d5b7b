// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What threads do again and again in a race.

use std::io;

use rand::{rngs::SmallRng, seq::IndexedRandom, SeedableRng};
use rustix::io::Errno;

use super::{
    dut::Dut,
    race::{Job, Latest},
    stream::load,
    verdict::{deviation, ensure, name, Outcome},
};
use crate::{bitmap::DirtyBitmap, device::Device, state::State, sys};

/// The IOVA range whose log is asked for.
pub const RANGE: (u64, u64) = (1 << 30, 64 << 20);

/// The errno of a call.
pub fn errno(e: &io::Error) -> Option<Errno> {
    Errno::from_io_error(e)
}

/// After a race the device is RUNNING, if need be by a reset, and a whole stream can be saved.
///
/// # Errors
///
/// A deviation: it is not.
pub fn usable(dut: &Dut) -> Outcome {
    let orderly = dut.set(State::Running).is_ok();
    if !orderly && dut.has_reset() {
        if let Err(e) = load::reset(dut) {
            deviation!("afterwards VFIO_DEVICE_RESET fails with {}", name(&e));
        }
    }
    dut.expect_state(State::Running, "afterwards")?;
    let image = load::save(dut).map_err(|e| e.within("afterwards"))?;
    ensure!(!image.bytes.is_empty(), "afterwards the stream is empty");
    Ok(())
}

/// A job that walks through states for ever. Any errno of `allowed` is well.
pub fn setter<'a>(
    device: &'a Device,
    states: Vec<State>,
    seed: u64,
    latest: &'a Latest,
    allowed: &'a [Errno],
) -> Job<'a> {
    let mut rng = SmallRng::seed_from_u64(seed);
    Job::new("SET", move || {
        let Some(to) = states.choose(&mut rng) else {
            return Ok(());
        };
        match sys::set_state(device.fd(), *to as u32) {
            Ok(Some(file)) => latest.put(file),
            Ok(None) => {}
            Err(e) if errno(&e).is_some_and(|e| allowed.contains(&e) || allowed.is_empty()) => {}
            Err(e) => deviation!("SET {to} failed with {}", name(&e)),
        }
        Ok(())
    })
}

/// A job that reads whatever file is the latest.
pub fn reader(latest: &Latest) -> Job<'_> {
    let mut buffer = vec![0; 4096];
    Job::new("read", move || {
        let Some(file) = latest.get() else {
            std::thread::yield_now();
            return Ok(());
        };
        match rustix::io::read(&*file, &mut buffer) {
            // EBADF, EINVAL: the file of a RESUMING session.
            Ok(_) | Err(Errno::NODEV | Errno::NOMSG | Errno::INTR | Errno::BADF | Errno::INVAL) => {
                Ok(())
            }
            Err(e) => deviation!("read() failed with {}", name(&e.into())),
        }
    })
}

/// The states that can always be left again.
pub fn safe_states(dut: &Dut) -> Vec<State> {
    let states = dut.states().into_iter();
    states.filter(|state| *state != State::Resuming).collect()
}

/// REPORT of [`RANGE`].
///
/// # Errors
///
/// The kernel's errno.
pub fn report(device: &Device) -> io::Result<()> {
    let mut bitmap = DirtyBitmap::new(RANGE.1 >> 12);
    sys::log_report(device.fd(), RANGE.0, RANGE.1, 4096, bitmap.words_mut())
}

/// A job that starts and stops the log.
pub fn switch<'a>(dut: &'a Dut, device: &'a Device) -> Job<'a> {
    Job::new("START and STOP", move || {
        match sys::log_start(device.fd(), 4096, &[RANGE]) {
            Ok(_) => {}
            Err(e) => deviation!("START failed with {}", name(&e)),
        }
        match dut.log_stop() {
            Ok(()) => Ok(()),
            Err(e) => deviation!("STOP of the log failed with {}", name(&e)),
        }
    })
}

/// A job that asks a log which may be off: EINVAL is allowed.
pub fn asker(device: &Device) -> Job<'_> {
    Job::new("REPORT", || match report(device) {
        Ok(()) => Ok(()),
        Err(e) if errno(&e) == Some(Errno::INVAL) => Ok(()),
        Err(e) => deviation!("REPORT failed with {}", name(&e)),
    })
}

/// A job that resets: EAGAIN is allowed.
pub fn resetter(dut: &Dut) -> Job<'_> {
    Job::new("RESET", || match dut.reset() {
        Ok(()) => Ok(()),
        Err(e) if errno(&e) == Some(Errno::AGAIN) => Ok(()),
        Err(e) => deviation!("VFIO_DEVICE_RESET failed with {}", name(&e)),
    })
}
