// SPDX-License-Identifier: Apache-2.0 OR MIT

//! From lines to calls and back.

use std::{
    collections::HashMap,
    io::{BufRead, Write},
    sync::{
        mpsc::{channel, Receiver, RecvTimeoutError},
        Arc, Mutex, PoisonError,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{json, Map};

use super::{
    protocol::{Call, Request},
    reply::Answer,
    session::Session,
};

/// Serves one session to any number of clients, one after the other.
pub struct Server {
    session: Arc<Session>,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    last: u64,
    running: HashMap<u64, Receiver<Answer>>,
}

/// Why [`Server::serve`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client went.
    Hangup,
    /// The client wants the program to end.
    Quit,
}

impl Server {
    /// With no job.
    pub fn new(session: Session) -> Self {
        Self {
            session: Arc::new(session),
            jobs: Mutex::default(),
        }
    }

    /// Answers each line of `input`.
    ///
    /// # Errors
    ///
    /// A line cannot be read, or an answer not be written.
    pub fn serve(&self, input: impl BufRead, mut output: impl Write) -> Result<End> {
        for line in input.lines() {
            let line = line.context("cannot read a request")?;
            if line.trim().is_empty() {
                continue;
            }
            let (answer, end) = match serde_json::from_str::<Request>(&line) {
                Ok(request) => {
                    let end = request.call == Call::Quit;
                    (self.answer(request), end)
                }
                Err(e) => (Answer::refusal(&format!("no request: {e}")), false),
            };
            let text = serde_json::to_string(&answer)? + "\n";
            output
                .write_all(text.as_bytes())
                .and_then(|()| output.flush())
                .context("cannot write an answer")?;
            if end {
                return Ok(End::Quit);
            }
        }
        Ok(End::Hangup)
    }

    fn answer(&self, request: Request) -> Answer {
        let Request {
            id,
            detached,
            fail_nth,
            call,
        } = request;
        let answer = match call {
            Call::Quit => Answer {
                ok: true,
                ..Answer::default()
            },
            Call::Wait { job, timeout_ms } => self.wait(job, Duration::from_millis(timeout_ms)),
            call if detached => self.start(call, fail_nth),
            call => timed(&self.session, &call, fail_nth),
        };
        answer.to(id)
    }

    fn start(&self, call: Call, fail_nth: Option<u32>) -> Answer {
        let (sender, receiver) = channel();
        let session = Arc::clone(&self.session);
        let spawned = thread::Builder::new().spawn(move || {
            // The receiver may be gone: no request waits for the answer then.
            let _ = sender.send(timed(&session, &call, fail_nth));
        });
        if let Err(e) = spawned {
            return Answer::refusal(&format!("no thread: {e}"));
        }
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.last += 1;
        let job = jobs.last;
        jobs.running.insert(job, receiver);
        Answer {
            ok: true,
            found: Map::from_iter([("job".to_owned(), json!(job))]),
            ..Answer::default()
        }
    }

    fn wait(&self, job: u64, limit: Duration) -> Answer {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(receiver) = jobs.running.get(&job) else {
            return Answer::refusal(&format!("there is no job {job}"));
        };
        match receiver.recv_timeout(limit) {
            Err(RecvTimeoutError::Timeout) => Answer {
                found: Map::from_iter([("pending".to_owned(), json!(true))]),
                ..Answer::default()
            },
            ended => {
                jobs.running.remove(&job);
                ended.unwrap_or_else(|_| Answer::refusal("the job died"))
            }
        }
    }
}

fn timed(session: &Session, call: &Call, fail_nth: Option<u32>) -> Answer {
    let begin = Instant::now();
    let result = match fail_nth {
        Some(nth) => session.run_starving(call, nth),
        None => session.run(call),
    };
    Answer::new(result, begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;
    use serde_json::Value;

    fn serve(lines: &str) -> (End, Vec<Value>) {
        let server = Server::new(Session::new("0000:00:05.0", Backend::Auto));
        let mut output = Vec::new();
        let end = server.serve(lines.as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        let answers = text.lines().map(|l| serde_json::from_str(l).unwrap());
        (end, answers.collect())
    }

    #[test]
    fn every_line_is_answered() {
        let (end, answers) = serve(
            "{\"cmd\":\"status\",\"id\":1}\n\nnonsense\n{\"cmd\":\"get\"}\n\
             {\"cmd\":\"quit\"}\n{\"cmd\":\"status\"}\n",
        );
        assert_eq!(end, End::Quit);
        assert_eq!(answers.len(), 4, "{answers:?}");
        assert_eq!(answers[0]["id"], 1);
        assert_eq!(answers[0]["open"], false);
        assert_eq!(answers[1]["ok"], false);
        assert_eq!(answers[2]["error"], "the device is not open");
        assert_eq!(answers[3]["ok"], true);
    }

    #[test]
    fn jobs_are_waited_for_once() {
        let (end, answers) = serve(
            "{\"cmd\":\"get\",\"async\":true}\n{\"cmd\":\"wait\",\"job\":1}\n\
             {\"cmd\":\"wait\",\"job\":1}\n",
        );
        assert_eq!(end, End::Hangup);
        assert_eq!(answers[0]["job"], 1);
        assert_eq!(answers[1]["error"], "the device is not open");
        assert_eq!(answers[2]["error"], "there is no job 1");
    }
}
