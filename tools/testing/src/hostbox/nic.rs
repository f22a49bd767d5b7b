// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The `dlr-nic` process of a host box.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use rustix::process::{kill_process, Pid, Signal};
use serde_json::{json, Value};

use super::{config::NicConfig, lifeline};

/// How long the process may take to offer its sockets.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running NIC.
pub struct Nic {
    child: Child,
    folder: PathBuf,
    log: PathBuf,
    functions: u16,
    killed: bool,
}

impl Nic {
    /// Starts the program and waits until all its sockets are there.
    pub(crate) fn start(
        program: &Path,
        config: &NicConfig,
        folder: PathBuf,
        log: PathBuf,
    ) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        let output = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let mut command = lifeline::command(&[program.into()]);
        command
            .arg("--dir")
            .arg(&folder)
            .args(["--functions", &config.functions.to_string()])
            .args(&config.args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = lifeline::spawn(command)
            .with_context(|| format!("cannot start the NIC {}", program.display()))?;
        let mut nic = Self {
            child,
            folder,
            log,
            functions: config.functions,
            killed: false,
        };
        let end = Instant::now() + START_LIMIT;
        while !nic.is_ready() {
            if let Some(status) = nic.child.try_wait()? {
                bail!(
                    "the NIC ended at once ({status}); see {}",
                    nic.log.display()
                );
            }
            if Instant::now() > end {
                bail!("the NIC offers no sockets; see {}", nic.log.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(nic)
    }

    fn is_ready(&self) -> bool {
        let data = (0..self.functions).map(|f| format!("df{f}.sock"));
        ["mf.sock".to_string(), "control.sock".to_string()]
            .into_iter()
            .chain(data)
            .all(|name| self.folder.join(name).exists())
    }

    /// Path of its control socket on this machine.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// Sends one line of JSON to the control socket and returns the answer.
    ///
    /// # Errors
    ///
    /// The NIC is gone, does not answer within a minute, or not in JSON, or refuses.
    pub fn control(&self, request: &Value) -> Result<Value> {
        let mut stream = UnixStream::connect(self.control_socket())
            .with_context(|| format!("control socket of the NIC (log: {})", self.log.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        let answer: Value = serde_json::from_str(&answer)
            .with_context(|| format!("answer of the NIC: {answer:?}"))?;
        ensure!(
            answer["ok"] == true,
            "the NIC, asked for {request}: {answer}"
        );
        Ok(answer)
    }

    /// Breaks a rule of the NIC in every `n`th case, or mends it with `n` 0.
    ///
    /// # Errors
    ///
    /// The NIC does not know the rule.
    pub fn sabotage(&self, kind: &str, n: u64) -> Result<()> {
        self.control(&json!({"cmd": "sabotage", "kind": kind, "n": n}))
            .map(drop)
    }

    /// Fails if a data function is not RUNNING, or something is left of a session, a log or a
    /// command.
    ///
    /// # Errors
    ///
    /// Says what is left over.
    pub fn check_idle(&self) -> Result<()> {
        let stats = self.control(&json!({"cmd": "stats"}))?;
        idle(&stats, self.functions)
    }

    /// Fails if the process ended by itself or a thread of it panicked.
    ///
    /// # Errors
    ///
    /// Says what happened and where its log is.
    pub fn check(&mut self) -> Result<()> {
        let log = fs::read(&self.log).unwrap_or_default();
        if String::from_utf8_lossy(&log).contains("panicked at") {
            bail!("a thread of the NIC panicked; see {}", self.log.display());
        }
        match self.child.try_wait()? {
            Some(status) if !self.killed => {
                bail!("the NIC died ({status}); see {}", self.log.display())
            }
            _ => Ok(()),
        }
    }

    /// Sends the process a signal, e.g. to let it stand still.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("process id of the NIC")?, signal)?;
        Ok(())
    }

    /// Ends the process hard, as a NIC that breaks.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub fn kill(&mut self) -> Result<()> {
        self.killed = true;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

/// Judges what a NIC with so many data functions counts.
fn idle(stats: &Value, functions: u16) -> Result<()> {
    // What is not told is not idle.
    let told = stats["functions"].as_array().map_or(0, Vec::len);
    ensure!(
        told == usize::from(functions),
        "the NIC tells of {told} functions and has {functions}: {stats}"
    );
    for function in stats["functions"].as_array().into_iter().flatten() {
        ensure!(
            function["state"] == 0
                && function["session"] == "none"
                && function["log"]["active"] == false,
            "left over in the NIC: {function}"
        );
    }
    let queue = &stats["queue"];
    ensure!(queue["outstanding"] == 0, "left over in the NIC: {queue}");
    Ok(())
}

impl Drop for Nic {
    fn drop(&mut self) {
        // Nothing is left to do for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener};

    use super::*;

    fn stats(functions: usize) -> Value {
        let function = json!({"state": 0, "session": "none", "log": {"active": false}});
        json!({"functions": vec![function; functions], "queue": {"outstanding": 0}})
    }

    /// A program without functions that prints `words`, lives on, and answers by its control socket that
    /// nothing is left over, once.
    pub(crate) fn idle_nic(folder: &Path, words: &str) -> Nic {
        let program = folder.join("program");
        let script = format!("#!/bin/sh\necho \"{words}\"\n: > \"$2/mf.sock\"\nexec sleep 60\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let listener = UnixListener::bind(folder.join("control.sock")).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let mut answer = stats(0);
            answer["ok"] = true.into();
            stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
        });
        let log = folder.join("nic.log");
        Nic::start(&program, &NicConfig::new(0), folder.into(), log).unwrap()
    }

    #[test]
    fn only_what_is_told_is_idle() {
        idle(&stats(2), 2).unwrap();
        for (field, value) in [
            ("state", json!(1)),
            ("session", json!("save")),
            ("log", json!({})),
        ] {
            let mut stats = stats(2);
            stats["functions"][1][field] = value;
            assert!(idle(&stats, 2).is_err(), "{field}");
        }
        let mut queue = stats(2);
        queue["queue"]["outstanding"] = 1.into();
        assert!(idle(&queue, 2).is_err());
    }

    #[test]
    fn functions_that_are_not_told_of_are_not_idle() {
        let mut none = stats(2);
        none["functions"].take();
        assert!(idle(&none, 2).is_err());
        assert!(idle(&stats(1), 2).is_err());
    }
}
