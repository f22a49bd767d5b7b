// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Host end of the agent's protocol.

mod program;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
        Arc, Mutex, MutexGuard, PoisonError,
    },
    thread,
    time::Duration,
};

use anyhow::{bail, Context, Result};
use dlr_agent::{receive, send, Event, Request, MAX_PAYLOAD, PROTOCOL_VERSION};

pub use program::{Output, Program};

/// What one request is sent, in order.
type Answers = Receiver<(Event, Vec<u8>)>;

/// Where the answers to each request go.
type Routes = HashMap<u64, Sender<(Event, Vec<u8>)>>;

/// What the error says of a box that went away while a test used it.
pub(crate) const WENT_AWAY: &str = "the box went away (see its console.log)";

/// How long answers may take that the agent gives at once.
const PROMPT: Duration = Duration::from_secs(60);

/// Time on top of a program's own limit before the host gives up on the agent.
const GRACE: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inner {
    out: Mutex<UnixStream>,
    /// `None` once the box is gone, so that no thread waits for it any more.
    routes: Mutex<Option<Routes>>,
    next: AtomicU64,
}

/// A connection to the agent of one box; clones share it.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

impl Agent {
    /// Waits for the agent's greeting on `stream` and starts to serve it.
    ///
    /// # Errors
    ///
    /// The stream broke, nothing came in time, or the agent is of another build.
    pub fn greet(stream: UnixStream, limit: Duration) -> Result<Self> {
        stream.set_read_timeout(Some(limit))?;
        let mut input = stream.try_clone()?;
        match receive::<Event>(&mut input).context("no greeting from the agent in the box")? {
            Some((Event::Hello { version }, _)) if version == PROTOCOL_VERSION => {}
            Some((other, _)) => bail!("unexpected greeting of the agent: {other:?}"),
            None => bail!("the box ended before its agent came up"),
        }
        stream.set_read_timeout(None)?;
        let agent = Self(Arc::new(Inner {
            out: Mutex::new(stream),
            routes: Mutex::new(Some(HashMap::new())),
            next: AtomicU64::new(1),
        }));
        let inner = Arc::clone(&agent.0);
        thread::spawn(move || inner.dispatch(&mut input));
        Ok(agent)
    }

    fn send(&self, request: &Request, payload: &[u8]) -> Result<()> {
        let mut out = lock(&self.0.out);
        send(&mut *out, request, payload).context("the box is gone")
    }

    /// Registers a new request and returns its id and where its answers come.
    fn open(&self) -> Result<(u64, Answers)> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::channel();
        match lock(&self.0.routes).as_mut() {
            Some(routes) => drop(routes.insert(id, sender)),
            None => bail!("the box is gone"),
        }
        Ok((id, answers))
    }

    /// Whether the box has gone away.
    fn is_gone(&self) -> bool {
        lock(&self.0.routes).is_none()
    }

    fn close(&self, id: u64) {
        if let Some(routes) = lock(&self.0.routes).as_mut() {
            routes.remove(&id);
        }
    }

    /// Starts a program; `limit` ends it and all its children.
    ///
    /// # Errors
    ///
    /// It could not be started, or the box is gone.
    pub fn spawn(
        &self,
        argv: &[&str],
        env: &[(&str, &str)],
        limit: Option<Duration>,
    ) -> Result<Program> {
        let (id, answers) = self.open()?;
        let request = Request::Exec {
            id,
            argv: argv.iter().map(ToString::to_string).collect(),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_string(), (*v).to_string()))
                .collect(),
            timeout_ms: limit.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)),
        };
        self.send(&request, &[])?;
        Program::started(self.clone(), id, answers)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    ///
    /// It could not be started, or the box is gone. How the program ended is
    /// for the caller to judge.
    pub fn run(&self, argv: &[&str], env: &[(&str, &str)], limit: Duration) -> Result<Output> {
        let mut program = self.spawn(argv, env, Some(limit))?;
        program.end_input()?;
        program.wait(limit + GRACE)
    }

    /// The contents of a file in the box.
    ///
    /// # Errors
    ///
    /// What the box says about the file, or the box is gone.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let path = path.into();
        self.read(|id| Request::Read { id, path })
    }

    /// The clock of the box, in microseconds since 1970.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn clock(&self) -> Result<i64> {
        let text = self.read(|id| Request::Clock { id })?;
        let digits = String::from_utf8_lossy(&text);
        digits.parse().context("clock of the box")
    }

    /// What the agent answers to a request of this id.
    fn read(&self, request: impl FnOnce(u64) -> Request) -> Result<Vec<u8>> {
        let (id, answers) = self.open()?;
        self.send(&request(id), &[])?;
        let mut contents = Vec::new();
        loop {
            match next(&answers, PROMPT)? {
                (Event::Data { .. }, bytes) => contents.extend(bytes),
                (Event::Done { .. }, _) => break,
                (Event::Failed { message, .. }, _) => bail!("{message}"),
                (other, _) => bail!("unexpected answer of the agent: {other:?}"),
            }
        }
        self.close(id);
        Ok(contents)
    }

    /// Replaces the contents of a file in the box, or stores to a file of
    /// sysfs; contents beyond one frame are appended piece by piece.
    ///
    /// # Errors
    ///
    /// What the box says about the file, or the box is gone.
    pub fn write_file(&self, path: &str, contents: &[u8]) -> Result<()> {
        let mut pieces = contents.chunks(MAX_PAYLOAD);
        let first = pieces.next().unwrap_or_default();
        for (append, piece) in std::iter::once((false, first)).chain(pieces.map(|p| (true, p))) {
            let (id, answers) = self.open()?;
            let path = path.to_string();
            self.send(&Request::Write { id, path, append }, piece)?;
            match next(&answers, PROMPT)? {
                (Event::Done { .. }, _) => self.close(id),
                (Event::Failed { message, .. }, _) => bail!("{message}"),
                (other, _) => bail!("unexpected answer of the agent: {other:?}"),
            }
        }
        Ok(())
    }

    /// Connects to a Unix socket in the box. What comes back is a socket of
    /// this machine, joined to the other one byte for byte.
    ///
    /// # Errors
    ///
    /// No process listens on the socket, or the box is gone.
    pub fn connect(&self, path: &str) -> Result<UnixStream> {
        let (id, answers) = self.open()?;
        self.send(
            &Request::Connect {
                id,
                path: path.into(),
            },
            &[],
        )?;
        match next(&answers, PROMPT)? {
            (Event::Connected { .. }, _) => {}
            (Event::Failed { message, .. }, _) => bail!("{message}"),
            (other, _) => bail!("unexpected answer of the agent: {other:?}"),
        }
        let (mine, theirs) = UnixStream::pair()?;
        let (mut from, mut to) = (mine.try_clone()?, mine);
        let agent = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; MAX_PAYLOAD];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let bytes = buffer.get(..n).unwrap_or_default();
                if agent.send(&Request::Data { id }, bytes).is_err() {
                    break;
                }
            }
            // Either end may be gone already.
            let _ = agent.send(&Request::Close { id }, &[]);
        });
        let agent = self.clone();
        thread::spawn(move || {
            while let Ok((Event::Data { .. }, bytes)) = answers.recv() {
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            agent.close(id);
        });
        Ok(theirs)
    }

    /// Asks the box to switch itself off.
    ///
    /// # Errors
    ///
    /// The box is gone already.
    pub fn power_off(&self) -> Result<()> {
        self.send(&Request::PowerOff, &[])
    }
}

impl Inner {
    /// Hands every event to the request it belongs to, until the box is gone.
    fn dispatch(&self, input: &mut UnixStream) {
        while let Ok(Some((event, payload))) = receive::<Event>(input) {
            let Some(id) = event.id() else { continue };
            let mut routes = lock(&self.routes);
            let Some(routes) = routes.as_mut() else {
                return;
            };
            let gone = routes
                .get(&id)
                .is_some_and(|route| route.send((event, payload)).is_err());
            if gone {
                routes.remove(&id);
            }
        }
        *lock(&self.routes) = None;
    }
}

fn next(answers: &Answers, limit: Duration) -> Result<(Event, Vec<u8>)> {
    match answers.recv_timeout(limit) {
        Ok(answer) => Ok(answer),
        Err(RecvTimeoutError::Disconnected) => bail!(WENT_AWAY),
        Err(RecvTimeoutError::Timeout) => {
            bail!("no answer from the box within {} s", limit.as_secs())
        }
    }
}
