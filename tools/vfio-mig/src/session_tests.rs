// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::*;
use crate::state::path;

/// A device in memory, with faults on order.
#[derive(Default)]
struct Fake {
    flags: u64,
    state: RefCell<Option<State>>,
    refuse: Option<State>,
    stuck: bool,
    resets: RefCell<u32>,
    visited: RefCell<Vec<State>>,
    stream: RefCell<VecDeque<io::Result<Vec<u8>>>>,
    written: Rc<RefCell<Vec<u8>>>,
}

struct FakeData {
    reads: VecDeque<io::Result<Vec<u8>>>,
    written: Rc<RefCell<Vec<u8>>>,
}

impl Read for FakeData {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.reads.pop_front() {
            None => Ok(0),
            Some(Err(e)) => Err(e),
            Some(Ok(data)) => {
                let n = data.len().min(buf.len());
                buf[..n].copy_from_slice(&data[..n]);
                Ok(n)
            }
        }
    }
}

impl Write for FakeData {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.borrow_mut().extend_from_slice(buf);
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DataFile for FakeData {
    fn precopy_info(&self) -> io::Result<PrecopyInfo> {
        Ok(PrecopyInfo::default())
    }
}

impl Migratable for Fake {
    type Data = FakeData;

    fn flags(&self) -> MigrationFlags {
        MigrationFlags(self.flags)
    }

    fn state(&self) -> io::Result<State> {
        Ok(self.state.borrow().unwrap_or(State::Running))
    }

    fn set_state(&self, to: State) -> io::Result<Option<FakeData>> {
        let from = self.state()?;
        let hops = path(self.flags(), from, to).ok_or(io::ErrorKind::InvalidInput)?;
        for hop in hops {
            if self.refuse == Some(hop) || (self.stuck && hop == State::Running) {
                return Err(rustix::io::Errno::NOTCONN.into());
            }
            *self.state.borrow_mut() = Some(hop);
            self.visited.borrow_mut().push(hop);
        }
        let opens = to.has_session() && !from.has_session();
        Ok(opens.then(|| FakeData {
            reads: std::mem::take(&mut self.stream.borrow_mut()),
            written: Rc::clone(&self.written),
        }))
    }

    fn data_size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn reset(&self) -> io::Result<()> {
        *self.resets.borrow_mut() += 1;
        *self.state.borrow_mut() = Some(State::Running);
        Ok(())
    }
}

fn nomsg() -> io::Result<Vec<u8>> {
    Err(rustix::io::Errno::NOMSG.into())
}

fn save(device: &Fake) -> Result<(SaveStats, Vec<u8>)> {
    let mut walk = Walk::new(device)?;
    let (mut stats, mut all) = (SaveStats::default(), Vec::new());
    let mut buf = [0; 16];
    let mut sink = |_: Phase, data: &[u8]| {
        all.extend_from_slice(data);
        Ok(())
    };
    if device.flags().pre_copy() {
        walk.to(State::PreCopy)?;
        pre_copy_round(&mut walk, &mut stats, &mut buf, &mut sink)?;
    }
    walk.to(State::StopCopy)?;
    stop_copy_all(&mut walk, &mut stats, &mut buf, &mut sink)?;
    walk.back()?;
    Ok((stats, all))
}

#[test]
fn both_phases_make_one_stream() {
    let reads = [Ok(b"ab".to_vec()), nomsg(), Ok(b"cd".to_vec())];
    let device = Fake {
        flags: 7,
        stream: RefCell::new(reads.into()),
        ..Fake::default()
    };
    let (stats, all) = save(&device).expect("saved");
    assert_eq!(all, b"abcd");
    assert_eq!(
        (stats.pre_copy_bytes, stats.stop_copy_bytes, stats.rounds),
        (2, 2, 1)
    );
    assert_eq!(device.state().expect("state"), State::Running);
    use State::*;
    assert_eq!(
        *device.visited.borrow(),
        [PreCopy, PreCopyP2p, StopCopy, Stop, RunningP2p, Running]
    );
}

#[test]
fn enomsg_is_no_end_when_stopped() {
    let reads = [Ok(b"ab".to_vec()), nomsg()];
    let device = Fake {
        flags: 3,
        stream: RefCell::new(reads.into()),
        ..Fake::default()
    };
    let error = save(&device).expect_err("truncated").to_string();
    assert!(error.contains("ENOMSG"), "{error}");
    assert_eq!(device.state().expect("state"), State::Running);
}

#[test]
fn interrupted_reads_go_on() {
    let reads = [Err(io::ErrorKind::Interrupted.into()), Ok(b"x".to_vec())];
    let device = Fake {
        flags: 1,
        stream: RefCell::new(reads.into()),
        ..Fake::default()
    };
    assert_eq!(save(&device).expect("saved").1, b"x");
}

#[test]
fn every_failure_ends_in_running() {
    for refuse in [
        State::PreCopy,
        State::PreCopyP2p,
        State::StopCopy,
        State::Stop,
    ] {
        let device = Fake {
            flags: 7,
            refuse: Some(refuse),
            ..Fake::default()
        };
        let _ = save(&device);
        assert_eq!(device.state().expect("state"), State::Running, "{refuse}");
    }
    let reads = [Err(io::ErrorKind::Other.into())];
    let device = Fake {
        flags: 7,
        stream: RefCell::new(reads.into()),
        ..Fake::default()
    };
    assert!(save(&device).is_err());
    assert_eq!(device.state().expect("state"), State::Running);
}

#[test]
fn a_refusal_says_what_to_do() {
    let said = |device: &Fake| {
        let error = save(device).expect_err("refused");
        crate::advice::one_line(&error)
    };
    let line = said(&Fake {
        flags: 7,
        refuse: Some(State::PreCopy),
        ..Fake::default()
    });
    assert!(line.contains("refuses state PRE_COPY"), "{line}");
    assert!(
        line.contains("is the function that manages it bound?"),
        "{line}"
    );
    let reads = [Err(rustix::io::Errno::NODEV.into())];
    let line = said(&Fake {
        flags: 1,
        stream: RefCell::new(reads.into()),
        ..Fake::default()
    });
    assert!(line.contains("the session has ended"), "{line}");
}

#[test]
fn a_stuck_device_is_reset() {
    let device = Fake {
        flags: 3,
        stuck: true,
        ..Fake::default()
    };
    save(&device).expect("saved");
    assert_eq!(*device.resets.borrow(), 1);
    assert_eq!(device.state().expect("state"), State::Running);
}

#[test]
fn only_a_running_device_is_taken() {
    let device = Fake {
        flags: 1,
        state: RefCell::new(Some(State::Stop)),
        ..Fake::default()
    };
    assert!(Walk::new(&device).is_err());
    assert!(Walk::new(&Fake::default()).is_err());
}

#[test]
fn loading_writes_into_the_session() {
    let device = Fake {
        flags: 7,
        ..Fake::default()
    };
    let mut walk = Walk::new(&device).expect("running");
    walk.to(State::Resuming).expect("resuming");
    walk.data()
        .expect("file")
        .write_all(b"image")
        .expect("written");
    assert_eq!(walk.back().expect("running"), Back::Orderly);
    assert_eq!(*device.written.borrow(), b"image");
    assert!(walk.data().is_err());
}
