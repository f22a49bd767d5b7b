// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls at the same time: FEATURE ioctls take no common lock, data files none at all.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::Mutex,
    time::Duration,
};

use rand::Rng;
use rustix::io::Errno;

use crate::{
    check::{
        jobs::{
            asker, errno, reader, report, resetter, safe_states, setter, switch, usable, RANGE,
        },
        race::{race, tiles, Job, Latest},
        stream::load,
        verdict::{deviation, ensure, name, Outcome},
        Case, Ctx, Group, Needs,
    },
    session::Migratable,
    state::State,
    sys,
};

/// How long calls race.
const LENGTH: Duration = Duration::from_secs(2);

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, more, says, run: fn(&mut Ctx) -> Outcome| {
        Case::new(Group::Concurrency, id, Needs::MIGRATION | more, says, run)
    };
    let (none, reset, logging) = (Needs::empty(), Needs::RESET, Needs::LOGGING);
    vec![
        case(
            "D5.parallel-reads",
            none,
            "each byte of the stream comes once, to one of its readers (uapi:1065)",
            parallel_reads,
        ),
        case(
            "D5.parallel-writes",
            reset,
            "bytes that come in any order are at worst an invalid stream (uapi:1120)",
            parallel_writes,
        ),
        case(
            "S5.two-setters",
            none,
            "two users of one device: each SET runs alone, from one state to another (uapi:1049)",
            two_setters,
        ),
        case(
            "D19.leave-against-read",
            none,
            "a session may end while it is read: read() gives data or an error, and ends \
             (uapi:1112)",
            leave_against_read,
        ),
        case(
            "F11.queries-against-states",
            none,
            "GET, MIG_DATA_SIZE and PRECOPY_INFO may be called while the state changes \
             (vfio_main.c:1384)",
            queries,
        ),
        case(
            "L19.report-against-states",
            logging,
            "REPORT works in every state and while it changes (uapi:1388)",
            report_against_states,
        ),
        case(
            "L7.stop-against-report",
            logging,
            "logging may be stopped and started while it is asked: REPORT reports or is EINVAL \
             (uapi:1454)",
            stop_against_report,
        ),
        case(
            "S14.reset-against-states",
            reset,
            "a reset while the state changes: RUNNING in the end (uapi:1052)",
            reset_against_states,
        ),
        case(
            "S14.reset-against-everything",
            reset,
            "a reset while state, file and log are used: RUNNING in the end (uapi:1052)",
            reset_against_everything,
        ),
    ]
}

fn parallel_reads(ctx: &mut Ctx) -> Outcome {
    let dut = &ctx.dut;
    dut.go(State::Stop)?;
    let whole = dut.image()?;
    dut.go(State::Stop)?;
    let again = dut.image()?;
    dut.go(State::Stop)?;
    for piece in [97, 4096, 1 << 16] {
        if whole.len() / piece > 4096 {
            continue;
        }
        let file = dut.session(State::StopCopy)?;
        let chunks = Mutex::new(Vec::new());
        let reader = || {
            let mut buffer = vec![0; piece];
            loop {
                match (&file).read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(n) => {
                        buffer.truncate(n);
                        let full = std::mem::replace(&mut buffer, vec![0; piece]);
                        let mut chunks = chunks.lock().map_err(|_| io::Error::other("lock"))?;
                        chunks.push(full);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        };
        let results: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4).map(|_| scope.spawn(reader)).collect();
            let ends = readers.into_iter().map(|reader| reader.join());
            ends.map(|end| end.unwrap_or_else(|_| Err(io::Error::other("panic"))))
                .collect()
        });
        for result in results {
            if let Err(e) = result {
                deviation!("one of four readers of {piece} bytes each got {}", name(&e));
            }
        }
        let chunks = chunks.into_inner().map_err(|_| io::Error::other("lock"))?;
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        ensure!(
            bytes == whole.len(),
            "four readers of {piece} bytes each got {bytes} bytes together, one got {}",
            whole.len()
        );
        if whole == again {
            ensure!(
                tiles(&whole, &chunks),
                "what four readers of {piece} bytes each got is not the stream that one got"
            );
        }
        drop(file);
        dut.go(State::Stop)?;
    }
    if whole != again {
        ctx.note("two streams of the stopped device differ: only bytes were counted");
    }
    Ok(())
}

fn parallel_writes(ctx: &mut Ctx) -> Outcome {
    let image = load::save(&ctx.dut)?;
    let dut = &ctx.dut;
    for piece in [1, 64, 4096] {
        let file = dut.session(State::Resuming)?;
        // Never more than the stream together: a driver must also survive more, but one that
        // does not takes the machine with it.
        let half = (image.bytes.len() / 2).min(piece * 512);
        let writer = |part: &[u8]| {
            part.chunks(piece)
                .take_while(|bytes| (&file).write(bytes).is_ok())
                .count()
        };
        let (one, two) = (
            image.bytes.get(..half).unwrap_or_default(),
            image.bytes.get(half..2 * half).unwrap_or_default(),
        );
        std::thread::scope(|scope| {
            scope.spawn(|| writer(one));
            scope.spawn(|| writer(two));
        });
        // It may even have been in order.
        if dut.set(State::Stop).is_err() {
            if let Err(e) = load::reset(dut) {
                deviation!(
                    "VFIO_DEVICE_RESET after parallel writes failed with {}",
                    name(&e)
                );
            }
        }
        usable(dut)?;
    }
    load::expect_good(
        &mut ctx.dut,
        [&image.bytes[..]],
        "the good stream after parallel writes",
    )
}

fn two_setters(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let (one, two) = (Latest::default(), Latest::default());
    let states = safe_states(&ctx.dut);
    // EINVAL: from STOP_COPY there is no way to pre-copy.
    let allowed = [Errno::INVAL];
    let jobs = vec![
        setter(&device, states.clone(), ctx.rng.random(), &one, &allowed),
        setter(&device, states, ctx.rng.random(), &two, &allowed),
    ];
    let said = race(LENGTH, jobs)?;
    ctx.note(format!("{said}, {} sessions", one.opened() + two.opened()));
    usable(&ctx.dut)
}

fn leave_against_read(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let latest = Latest::default();
    let states = safe_states(&ctx.dut);
    let allowed = [Errno::INVAL];
    let jobs = vec![
        setter(&device, states, ctx.rng.random(), &latest, &allowed),
        reader(&latest),
        reader(&latest),
    ];
    let said = race(LENGTH, jobs)?;
    ctx.note(format!("{said}, {} sessions", latest.opened()));
    usable(&ctx.dut)
}

fn queries(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let latest = Latest::default();
    let allowed = [Errno::INVAL];
    let states = safe_states(&ctx.dut);
    let get = Job::new("GET", || match device.state() {
        Ok(State::Error) => deviation!("GET says ERROR"),
        Ok(_) => Ok(()),
        Err(e) => deviation!("GET of the state failed with {}", name(&e)),
    });
    let size = Job::new("MIG_DATA_SIZE", || match device.data_size() {
        Ok(_) => Ok(()),
        Err(e) => deviation!("MIG_DATA_SIZE failed with {}", name(&e)),
    });
    let precopy = Job::new("PRECOPY_INFO", || {
        if let Some(file) = latest.get() {
            match sys::precopy_info(&file) {
                Ok(_) => {}
                Err(e) if matches!(errno(&e), Some(Errno::INVAL | Errno::NODEV | Errno::NOTTY)) => {
                }
                Err(e) => deviation!("PRECOPY_INFO failed with {}", name(&e)),
            }
        }
        Ok(())
    });
    let jobs = vec![
        setter(&device, states, ctx.rng.random(), &latest, &allowed),
        get,
        size,
        precopy,
    ];
    let said = race(LENGTH, jobs)?;
    ctx.note(said);
    usable(&ctx.dut)
}

fn report_against_states(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let latest = Latest::default();
    let allowed = [Errno::INVAL];
    let states = safe_states(&ctx.dut);
    let _log = device.log_start(
        4096,
        &[crate::range::IovaRange {
            iova: RANGE.0,
            length: RANGE.1,
        }],
    )?;
    let ask = || match report(&device) {
        Ok(()) => Ok(()),
        Err(e) => deviation!("REPORT failed with {}", name(&e)),
    };
    let jobs = vec![
        setter(&device, states, ctx.rng.random(), &latest, &allowed),
        Job::new("REPORT", ask),
        Job::new("REPORT", ask),
    ];
    let said = race(LENGTH, jobs)?;
    ctx.note(said);
    usable(&ctx.dut)
}

fn stop_against_report(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let jobs = vec![switch(&ctx.dut, &device), asker(&device), asker(&device)];
    let said = race(LENGTH, jobs)?;
    ctx.note(said);
    usable(&ctx.dut)
}

fn reset_against_states(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let latest = Latest::default();
    // Whatever a SET says whose device is reset under it: the end counts.
    let jobs = vec![
        setter(&device, ctx.dut.states(), ctx.rng.random(), &latest, &[]),
        resetter(&ctx.dut),
    ];
    let said = race(LENGTH, jobs)?;
    ctx.note(format!("{said}, {} sessions", latest.opened()));
    usable(&ctx.dut)
}

fn reset_against_everything(ctx: &mut Ctx) -> Outcome {
    let device = ctx.dut.device()?;
    let latest = Latest::default();
    let writer = Job::new("write", || {
        if let Some(file) = latest.get() {
            // EBADF on a file for reading; anything is well but a hang.
            let _ = (&*file as &File).write(&[0; 256]);
        }
        Ok(())
    });
    let mut jobs = vec![
        setter(&device, ctx.dut.states(), ctx.rng.random(), &latest, &[]),
        reader(&latest),
        writer,
        resetter(&ctx.dut),
    ];
    if ctx.dut.has_logging() {
        jobs.push(switch(&ctx.dut, &device));
        jobs.push(asker(&device));
    }
    let said = race(LENGTH, jobs)?;
    ctx.note(format!("{said}, {} sessions", latest.opened()));
    usable(&ctx.dut)
}
