// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A command that is stuck ends at the second signal. It is stuck in open() of a pipe without a
//! writer, as it would be in a call into a driver that does not come back.
#![allow(clippy::unwrap_used)]

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};
use rustix::fs::{mknodat, FileType, Mode, CWD};

const LIMIT: Duration = Duration::from_secs(20);

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vfio-mig"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Exit code, or `None` while it runs.
fn ended(child: &mut Child, within: Duration) -> Option<i32> {
    let end = Instant::now() + within;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return Some(status.code().unwrap_or(-1)),
            None if Instant::now() > end => return None,
            None => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Blocks SIGINT and SIGTERM of the child: the sign that it watches them.
fn watches(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let masks = status.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        let of = name == "SigBlk" || name == "SigCgt";
        of.then(|| u64::from_str_radix(mask.trim(), 16).unwrap())
    });
    masks.fold(0, |all, mask| all | mask) & 1 << (Signal::SIGTERM as u32 - 1) != 0
}

fn wait_until_it_watches(child: &Child) {
    let end = Instant::now() + LIMIT;
    while !watches(child) {
        assert!(Instant::now() < end, "it does not watch signals");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stuck_command_ends_at_the_second_signal() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let mut child = start(&["check", "--expect", pipe.to_str().unwrap(), "0000:00:00.0"]);
    wait_until_it_watches(&child);
    signal(&child, Signal::SIGINT);
    let first = ended(&mut child, Duration::from_millis(300));
    signal(&child, Signal::SIGTERM);
    let second = ended(&mut child, LIMIT);
    let _ = child.kill();
    assert_eq!(first, None, "the first signal only asks");
    assert_eq!(second, Some(130), "the second signal did not end it");
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(said.contains("a second signal ends at once"), "{said}");
}
