// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A program in the box, and what it leaves behind.

use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use dlr_agent::{Event, Request, MAX_PAYLOAD};

use super::{next, Agent, Answers, PROMPT};

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
    /// Waits until the agent has started it.
    pub(super) fn started(agent: Agent, id: u64, answers: Answers) -> Result<Self> {
        let mut program = Self {
            agent,
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
                Err(_) if !self.agent.is_gone() && !self.ended => return Ok(true),
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
