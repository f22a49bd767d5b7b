// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A QMP client. Events come by the thousand during a migration, so they are
//! read all the time, and every wait has a limit.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

/// Limit of a command that names none.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Inbox {
    events: Vec<Value>,
    answers: Vec<(u64, Value)>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `look` finds something, the connection closes or time is up.
    fn wait<T>(
        &self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&mut Inbox) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut inbox = self.lock();
        loop {
            if let Some(found) = look(&mut inbox) {
                return Ok(found);
            }
            if inbox.closed {
                bail!("QEMU closed the connection while waiting for {what}");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last: Vec<_> = inbox.events.iter().rev().take(5).collect();
                bail!(
                    "no {what} within {} s; last events: {last:?}",
                    limit.as_secs()
                );
            }
            inbox = self
                .news
                .wait_timeout(inbox, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Marks an error, as a context, that a virtual machine brings about which is dead or spins: its
/// QEMU has ended, or QEMU or the guest does not answer. An answer is never such an error, whatever
/// it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// Name of the virtual machine.
    pub vm: String,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is silent", self.vm)
    }
}

/// A connection to one QEMU.
pub struct Qmp {
    out: UnixStream,
    shared: Arc<Shared>,
    next: u64,
    /// Whose errors are marked with [`Silent`].
    vm: Option<String>,
}

impl Qmp {
    /// Takes over a fresh connection and negotiates.
    ///
    /// # Errors
    ///
    /// What is at the other end does not speak QMP.
    pub fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(LIMIT))?;
        let mut input = BufReader::new(stream.try_clone()?);
        let mut greeting = String::new();
        input
            .read_line(&mut greeting)
            .context("no greeting of QMP")?;
        let value: Value = serde_json::from_str(&greeting).context("greeting of QMP")?;
        if value.get("QMP").is_none() {
            bail!("not a greeting of QMP: {greeting}");
        }
        stream.set_read_timeout(None)?;
        let shared = Arc::new(Shared::default());
        let inbox = Arc::clone(&shared);
        thread::spawn(move || {
            for line in input.lines() {
                let Ok(line) = line else { break };
                let Ok(value) = serde_json::from_str::<Value>(&line) else {
                    continue;
                };
                let mut guard = inbox.lock();
                if let Some(id) = value.get("id").and_then(Value::as_u64) {
                    guard.answers.push((id, value));
                } else if value.get("event").is_some() {
                    guard.events.push(value);
                }
                inbox.news.notify_all();
            }
            inbox.lock().closed = true;
            inbox.news.notify_all();
        });
        let mut qmp = Self {
            out: stream,
            shared,
            next: 1,
            vm: None,
        };
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Marks with [`Silent`] from now on what shows that this virtual machine has ended or hangs.
    #[must_use]
    pub fn of(mut self, vm: &str) -> Self {
        self.vm = Some(vm.to_owned());
        self
    }

    fn silent<T>(&self, result: Result<T>) -> Result<T> {
        match &self.vm {
            Some(vm) => result.map_err(|e| e.context(Silent { vm: vm.clone() })),
            None => result,
        }
    }

    /// Runs a command and returns what it returns. `Null` for no arguments.
    ///
    /// # Errors
    ///
    /// QEMU refuses it (the text is QEMU's), is gone, or takes over a minute.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let id = self.next;
        self.next += 1;
        let mut request = json!({"execute": command, "id": id});
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let written = self.out.write_all(format!("{request}\n").as_bytes());
        self.silent(written.with_context(|| format!("QMP for {command}")))?;
        let answer = self
            .shared
            .wait(LIMIT, &format!("answer to {command}"), |inbox| {
                let at = inbox.answers.iter().position(|(i, _)| *i == id)?;
                Some(inbox.answers.swap_remove(at).1)
            });
        let mut answer = self.silent(answer)?;
        if let Some(error) = answer.get("error") {
            let text = error
                .get("desc")
                .and_then(Value::as_str)
                .unwrap_or("no reason given");
            bail!("{command}: {text}");
        }
        Ok(answer
            .get_mut("return")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// Waits for an event, past ones included, that `accept` likes.
    ///
    /// # Errors
    ///
    /// None came within `limit`, or QEMU is gone.
    pub fn wait_event(
        &self,
        name: &str,
        limit: Duration,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let event = self.shared.wait(limit, &format!("event {name}"), |inbox| {
            inbox
                .events
                .iter()
                .find(|e| e["event"] == name && accept(&e["data"]))
                .cloned()
        });
        // A QEMU that answers may have a reason not to send it.
        let ended = self.shared.lock().closed;
        if ended {
            self.silent(event)
        } else {
            event
        }
    }

    /// All events so far, in order.
    pub fn events(&self) -> Vec<Value> {
        self.shared.lock().events.clone()
    }

    /// Forgets the events so far, e.g. before the next migration.
    pub fn forget_events(&self) {
        self.shared.lock().events.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fake(answers: &'static str) -> Qmp {
        let (mine, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut out = theirs.try_clone().unwrap();
            let mut input = BufReader::new(theirs);
            writeln!(out, "{{\"QMP\":{{}}}}").unwrap();
            let mut line = String::new();
            input.read_line(&mut line).unwrap();
            writeln!(out, "{{\"return\":{{}},\"id\":1}}").unwrap();
            line.clear();
            input.read_line(&mut line).unwrap();
            out.write_all(answers.as_bytes()).unwrap();
        });
        Qmp::new(mine).unwrap()
    }

    #[test]
    fn events_between_command_and_answer_are_kept() {
        let mut qmp = fake(concat!(
            r#"{"event":"STOP","data":{}}"#,
            "\n",
            r#"{"return":{"status":"x"},"id":2}"#,
            "\n"
        ));
        assert_eq!(
            qmp.execute("query-status", Value::Null).unwrap()["status"],
            "x"
        );
        qmp.wait_event("STOP", Duration::from_secs(1), |_| true)
            .unwrap();
        assert!(qmp
            .wait_event("RESUME", Duration::from_millis(10), |_| true)
            .is_err());
    }

    #[test]
    fn the_text_of_an_error_is_passed_on() {
        let mut qmp = fake(concat!(
            r#"{"error":{"desc":"no such thing"},"id":2}"#,
            "\n"
        ));
        let error = qmp.execute("x", Value::Null).unwrap_err().to_string();
        assert!(error.contains("no such thing"));
    }

    #[test]
    fn a_qemu_that_ended_is_silent_and_one_that_refuses_is_not() {
        let vm = "vm3".to_owned();
        let mut qmp = fake(concat!(r#"{"error":{"desc":"no"},"id":2}"#, "\n")).of(&vm);
        let refused = qmp.execute("x", Value::Null).unwrap_err();
        assert!(!refused.is::<Silent>(), "{refused:#}");
        let ended = qmp.execute("x", Value::Null).unwrap_err().context("later");
        assert_eq!(
            ended.downcast_ref::<Silent>(),
            Some(&Silent { vm: vm.clone() })
        );
        let event = qmp.wait_event("RESUME", Duration::from_secs(1), |_| true);
        assert!(event.unwrap_err().is::<Silent>());
        let mut alive = fake("");
        alive.vm = Some(vm);
        let (mine, _theirs) = UnixStream::pair().unwrap();
        alive.out = mine;
        alive.shared = Arc::default();
        let event = alive.wait_event("RESUME", Duration::from_millis(10), |_| true);
        assert!(!event.unwrap_err().is::<Silent>(), "it only says nothing");
    }
}
