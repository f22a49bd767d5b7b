// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Host end of the agent's protocol.

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
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use dlr_agent::{receive, send, Event, Request, MAX_PAYLOAD, PROTOCOL_VERSION};

/// What one request is sent, in order.
type Answers = Receiver<(Event, Vec<u8>)>;

/// Where the answers to each request go.
type Routes = HashMap<u64, Sender<(Event, Vec<u8>)>>;

/// How long answers may take that the agent gives at once.
const PROMPT: Duration = Duration::from_secs(60);

/// Time on top of a program's own limit before the host gives up on the agent.
const GRACE: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inner {
    out: Mutex<UnixStream>,
    /// `None` once the box is gone, so that nobody waits for it any more.
    routes: Mutex<Option<Routes>>,
    next: AtomicU64,
}

/// A connection to the agent of one box; clones share it.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

/// What a program left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` when a signal ended the program.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether its time was up.
    pub timed_out: bool,
    /// Everything it printed.
    pub stdout: Vec<u8>,
    /// Everything it printed as errors.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// How it ended, in words.
    pub fn ending(&self) -> String {
        match (self.timed_out, self.code, self.signal) {
            (true, ..) => "ran out of time".into(),
            (_, Some(code), _) => format!("exited with status {code}"),
            (_, _, Some(signal)) => format!("was ended by signal {signal}"),
            _ => "ended in an unknown way".into(),
        }
    }
}

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
        let mut program = Program {
            agent: self.clone(),
            id,
            pid: 0,
            answers,
            output: Output::default(),
            ended: false,
        };
        match program.next_event(PROMPT)? {
            Some(Event::Started { pid, .. }) => program.pid = pid,
            other => bail!("unexpected answer of the agent: {other:?}"),
        }
        Ok(program)
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
        let (id, answers) = self.open()?;
        self.send(
            &Request::Read {
                id,
                path: path.into(),
            },
            &[],
        )?;
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
    /// Nobody listens there, or the box is gone.
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
        Err(RecvTimeoutError::Disconnected) => bail!("the box went away (see its console.log)"),
        Err(RecvTimeoutError::Timeout) => {
            bail!("no answer from the box within {} s", limit.as_secs())
        }
    }
}

/// A program that runs in the box. Dropping it lets the program run on.
pub struct Program {
    agent: Agent,
    id: u64,
    pid: i32,
    answers: Answers,
    output: Output,
    ended: bool,
}

impl Program {
    /// Its process id in the box.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes in one event; `None` when the program ended.
    fn next_event(&mut self, limit: Duration) -> Result<Option<Event>> {
        if self.ended {
            return Ok(None);
        }
        let (event, bytes) = next(&self.answers, limit)?;
        match &event {
            Event::Stdout { .. } => self.output.stdout.extend(bytes),
            Event::Stderr { .. } => self.output.stderr.extend(bytes),
            Event::Exit {
                code,
                signal,
                timed_out,
                ..
            } => {
                self.output.code = *code;
                self.output.signal = *signal;
                self.output.timed_out = *timed_out;
                self.ended = true;
            }
            Event::Failed { message, .. } => {
                self.ended = true;
                bail!("{message}");
            }
            _ => {}
        }
        Ok(Some(event))
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(MAX_PAYLOAD) {
            self.agent.send(&Request::Stdin { id: self.id }, piece)?;
        }
        Ok(())
    }

    /// Closes its standard input.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn end_input(&self) -> Result<()> {
        self.agent.send(&Request::StdinEnd { id: self.id }, &[])
    }

    /// Sends a signal, by number as in signal(7), to it and its children.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.agent.send(
            &Request::Signal {
                id: self.id,
                signal,
            },
            &[],
        )
    }

    /// Takes in what has come until now, without waiting; whether it still runs.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn poll(&mut self) -> Result<bool> {
        loop {
            match self.next_event(Duration::ZERO) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(_) if lock(&self.agent.0.routes).is_some() && !self.ended => return Ok(true),
                Err(e) => return Err(e),
            }
        }
    }

    /// What it printed so far, as of the last `poll`.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Hands output to `sink` as it comes, then returns the rest at the end.
    ///
    /// # Errors
    ///
    /// The program did not end within `limit`, or the box is gone.
    pub fn follow(&mut self, limit: Duration, mut sink: impl FnMut(&Output)) -> Result<Output> {
        let end = Instant::now() + limit;
        while !self.ended {
            let left = end.saturating_duration_since(Instant::now());
            self.next_event(left)?;
            sink(&self.output);
            self.output.stdout.clear();
            self.output.stderr.clear();
        }
        self.agent.close(self.id);
        Ok(std::mem::take(&mut self.output))
    }

    /// Waits for its end and returns all it printed.
    ///
    /// # Errors
    ///
    /// It did not end within `limit`, or the box is gone.
    pub fn wait(&mut self, limit: Duration) -> Result<Output> {
        let end = Instant::now() + limit;
        while !self.ended {
            self.next_event(end.saturating_duration_since(Instant::now()))?;
        }
        self.agent.close(self.id);
        Ok(std::mem::take(&mut self.output))
    }
}
