// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Programs that run on behalf of the host.

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc, Arc,
    },
    thread,
    time::Duration,
};

use dlr_agent::{Event, MAX_PAYLOAD};
use rustix::process::{kill_process_group, Pid, Signal};

use crate::port::Port;

/// A program that was started and not yet reaped.
pub(crate) struct Running {
    group: Pid,
    /// Bytes for its standard input; gone once that was closed.
    stdin: Option<mpsc::Sender<Vec<u8>>>,
}

impl Running {
    /// Queues input; input after the end of input is dropped.
    pub(crate) fn feed(&self, bytes: Vec<u8>) {
        if let Some(stdin) = &self.stdin {
            // The program may have closed its input already.
            let _ = stdin.send(bytes);
        }
    }

    /// Closes the standard input once what was queued is written.
    pub(crate) fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Signals the whole process group.
    pub(crate) fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::from_named_raw(number)
            .ok_or_else(|| io::Error::other(format!("{number} is not a signal")))?;
        Ok(kill_process_group(self.group, signal)?)
    }
}

/// Starts a program and the threads that look after it. `on_exit` runs after
/// its last event was sent.
pub(crate) fn start(
    id: u64,
    argv: &[String],
    env: Vec<(String, String)>,
    limit: Option<Duration>,
    port: &Arc<Port>,
    on_exit: impl FnOnce() + Send + 'static,
) -> io::Result<Running> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::other("nothing to run"))?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(env)
        .current_dir("/root")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    let raw = i32::try_from(child.id()).map_err(io::Error::other)?;
    let group = Pid::from_raw(raw).ok_or_else(|| io::Error::other("process id 0"))?;
    port.send(&Event::Started { id, pid: raw }, &[])?;

    let stdin = child.stdin.take().map(feed_from_queue);
    let mut pumps = Vec::new();
    if let Some(out) = child.stdout.take() {
        let port = Arc::clone(port);
        pumps.push(thread::spawn(move || {
            pump(out, &port, &Event::Stdout { id });
        }));
    }
    if let Some(err) = child.stderr.take() {
        let port = Arc::clone(port);
        pumps.push(thread::spawn(move || {
            pump(err, &port, &Event::Stderr { id });
        }));
    }
    let timed_out = Arc::new(AtomicBool::new(false));
    let alarm = limit.map(|limit| set_alarm(limit, group, Arc::clone(&timed_out)));
    let port = Arc::clone(port);
    thread::spawn(move || {
        report_exit(id, child, pumps, &port, &timed_out);
        drop(alarm);
        on_exit();
    });
    Ok(Running { group, stdin })
}

fn feed_from_queue(mut stdin: ChildStdin) -> mpsc::Sender<Vec<u8>> {
    let (sender, queue) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in queue {
            if stdin.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    sender
}

/// Sends everything that can be read as payload of `event`.
fn pump(mut from: impl Read, port: &Port, event: &Event) {
    let mut buffer = vec![0; MAX_PAYLOAD / 2];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => {
                if port
                    .send(event, buffer.get(..n).unwrap_or_default())
                    .is_err()
                {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Kills the group after `limit` unless the returned handle is dropped first.
fn set_alarm(limit: Duration, group: Pid, timed_out: Arc<AtomicBool>) -> mpsc::Sender<()> {
    let (cancel, cancelled) = mpsc::channel();
    thread::spawn(move || {
        if cancelled.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            timed_out.store(true, Ordering::Relaxed);
            let _ = kill_process_group(group, Signal::KILL);
        }
    });
    cancel
}

fn report_exit(
    id: u64,
    mut child: Child,
    pumps: Vec<thread::JoinHandle<()>>,
    port: &Port,
    timed_out: &AtomicBool,
) {
    let status = child.wait();
    // A daemon that the program left behind keeps its output open: what it
    // says is still sent, but the exit of the program does not wait for it.
    let patience = Duration::from_millis(500);
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    while waited < patience && !pumps.iter().all(thread::JoinHandle::is_finished) {
        thread::sleep(step);
        waited += step;
    }
    let event = match status {
        Ok(status) => Event::Exit {
            id,
            code: status.code(),
            signal: status.signal(),
            timed_out: timed_out.load(Ordering::Relaxed),
        },
        Err(e) => Event::Failed {
            id,
            message: format!("wait: {e}"),
        },
    };
    // The port only fails when the host is gone, and with it the box.
    let _ = port.send(&event, &[]);
}
