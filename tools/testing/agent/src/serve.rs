// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The agent proper: requests in, events out.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use dlr_agent::{receive, Event, Request, MAX_PAYLOAD, PORT_NAME, PROTOCOL_VERSION};

use crate::{
    exec::{self, Running},
    port::Port,
};

/// What is under way.
#[derive(Default)]
struct Tables {
    programs: HashMap<u64, Running>,
    tunnels: HashMap<u64, UnixStream>,
}

type Shared = Arc<Mutex<Tables>>;

fn lock(tables: &Shared) -> std::sync::MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the host asks to switch off or closes its end.
pub(crate) fn serve() -> io::Result<()> {
    let path = find_port()?;
    // The kernel lets a port be opened once, so both directions share a file.
    let output = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut input = output.try_clone()?;
    let port = Arc::new(Port::new(output));
    let tables = Shared::default();
    port.send(
        &Event::Hello {
            version: PROTOCOL_VERSION,
        },
        &[],
    )?;
    while let Some((request, payload)) = receive::<Request>(&mut input)? {
        if matches!(request, Request::PowerOff) {
            break;
        }
        handle(request, payload, &port, &tables)?;
    }
    Ok(())
}

/// The device node of the port with our name.
fn find_port() -> io::Result<PathBuf> {
    for _ in 0..200 {
        if let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") {
            for port in ports.flatten() {
                let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
                if name.trim() == PORT_NAME {
                    return Ok(PathBuf::from("/dev").join(port.file_name()));
                }
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::other("the host offers no port for the agent"))
}

/// Serves one request. Only a broken port is an error here; what goes wrong
/// with the request itself is told to the host.
fn handle(request: Request, payload: Vec<u8>, port: &Arc<Port>, tables: &Shared) -> io::Result<()> {
    let (id, result) = match request {
        Request::Exec {
            id,
            argv,
            env,
            timeout_ms,
        } => {
            let limit = timeout_ms.map(Duration::from_millis);
            // Held across the start, so that the exit of a short program
            // cannot be handled before its entry exists.
            let mut guard = lock(tables);
            let on_exit = {
                let tables = Arc::clone(tables);
                move || drop(lock(&tables).programs.remove(&id))
            };
            let result = exec::start(id, &argv, env, limit, port, on_exit)
                .map(|running| drop(guard.programs.insert(id, running)));
            (id, result)
        }
        Request::Stdin { id } => {
            if let Some(program) = lock(tables).programs.get(&id) {
                program.feed(payload);
            }
            (id, Ok(()))
        }
        Request::StdinEnd { id } => {
            if let Some(program) = lock(tables).programs.get_mut(&id) {
                program.end_input();
            }
            (id, Ok(()))
        }
        Request::Signal { id, signal } => {
            // A program that has just ended needs no signal any more.
            let result = lock(tables)
                .programs
                .get(&id)
                .map_or(Ok(()), |program| program.signal(signal));
            (id, result.or(Ok(())))
        }
        Request::Read { id, path } => {
            let port = Arc::clone(port);
            // Some files under /sys answer late; they must not hold up others.
            thread::spawn(move || {
                let outcome = read_file(id, &path, &port);
                let _ = conclude(id, outcome.map(|()| Some(Event::Done { id })), &port);
            });
            (id, Ok(()))
        }
        // No thread: how long that takes would be an error of the clock.
        Request::Clock { id } => {
            let clock = port.send(&Event::Data { id }, micros().to_string().as_bytes());
            (id, clock.and_then(|()| port.send(&Event::Done { id }, &[])))
        }
        Request::Write { id, path, append } => {
            let port = Arc::clone(port);
            thread::spawn(move || {
                let outcome = write_file(&path, append, &payload);
                let _ = conclude(id, outcome.map(|()| Some(Event::Done { id })), &port);
            });
            (id, Ok(()))
        }
        Request::Connect { id, path } => (id, connect(id, &path, port, tables)),
        Request::Data { id } => {
            let stream = lock(tables).tunnels.get(&id).map(UnixStream::try_clone);
            if let Some(Ok(mut stream)) = stream {
                // A reader that is gone shows as `Closed`.
                let _ = stream.write_all(&payload);
            }
            (id, Ok(()))
        }
        Request::Close { id } => {
            if let Some(stream) = lock(tables).tunnels.remove(&id) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            (id, Ok(()))
        }
        Request::PowerOff => return Ok(()),
    };
    conclude(id, result.map(|()| None), port)
}

/// Sends the last event of a request, or why it failed.
fn conclude(id: u64, outcome: io::Result<Option<Event>>, port: &Port) -> io::Result<()> {
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(event)) => port.send(&event, &[]),
        Err(e) => port.send(
            &Event::Failed {
                id,
                message: e.to_string(),
            },
            &[],
        ),
    }
}

fn named<T>(path: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

fn read_file(id: u64, path: &str, port: &Port) -> io::Result<()> {
    let mut file = named(path, File::open(path))?;
    let mut buffer = vec![0; MAX_PAYLOAD / 2];
    loop {
        let n = named(path, file.read(&mut buffer))?;
        if n == 0 {
            return Ok(());
        }
        port.send(&Event::Data { id }, buffer.get(..n).unwrap_or_default())?;
    }
}

/// Microseconds since 1970.
fn micros() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |time| time.as_micros())
}

/// One write(2) for files under /sys, whose stores must not be cut.
fn write_file(path: &str, append: bool, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .append(append)
        .truncate(!append)
        .open(path);
    named(path, named(path, file)?.write_all(bytes))
}

fn connect(id: u64, path: &str, port: &Arc<Port>, tables: &Shared) -> io::Result<()> {
    let stream = named(path, UnixStream::connect(path))?;
    let mut reader = stream.try_clone()?;
    lock(tables).tunnels.insert(id, stream);
    port.send(&Event::Connected { id }, &[])?;
    let (port, tables) = (Arc::clone(port), Arc::clone(tables));
    thread::spawn(move || {
        let mut buffer = vec![0; MAX_PAYLOAD / 2];
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            let bytes = buffer.get(..n).unwrap_or_default();
            if port.send(&Event::Data { id }, bytes).is_err() {
                return;
            }
        }
        lock(&tables).tunnels.remove(&id);
        let _ = port.send(&Event::Closed { id }, &[]);
    });
    Ok(())
}
