// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Commands and files in the box, and connections to what runs there.

use std::{
    io::Write,
    os::unix::net::UnixStream,
    sync::PoisonError,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Result};

use super::HostBox;
use crate::{
    agent::{Output, Program},
    qmp::Qmp,
};

/// Limit of a command that names none.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

impl HostBox {
    /// Runs a shell command and returns its output.
    ///
    /// # Errors
    ///
    /// Its status is not 0; the error holds what it printed.
    pub fn run(&self, command: &str) -> Result<String> {
        let output = self.try_run(command, COMMAND_LIMIT)?;
        ensure!(
            output.success(),
            "`{command}` {}\n{}{}",
            output.ending(),
            output.text(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output.text())
    }

    /// Runs a shell command to its end. Its exit status is for the caller to judge.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn try_run(&self, command: &str, limit: Duration) -> Result<Output> {
        let output = self.agent.run(&["sh", "-c", command], &[], limit)?;
        self.log(&format!(
            "$ {command}\n{}{}# {}\n",
            output.text(),
            String::from_utf8_lossy(&output.stderr),
            output.ending()
        ));
        Ok(output)
    }

    /// Starts a shell command in the background.
    ///
    /// # Errors
    ///
    /// It could not be started.
    pub fn spawn(&self, command: &str) -> Result<Program> {
        self.log(&format!("$ {command} &\n"));
        self.agent.spawn(&["sh", "-c", command], &[], None)
    }

    /// The contents of a file of the box.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        self.agent.read_file(path)
    }

    /// Writes a file of the box, with one write(2) if it is short.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write_file(&self, path: &str, contents: impl AsRef<[u8]>) -> Result<()> {
        self.log(&format!(
            "$ write {path}: {}\n",
            String::from_utf8_lossy(contents.as_ref().get(..200).unwrap_or(contents.as_ref()))
        ));
        self.agent.write_file(path, contents.as_ref())
    }

    /// Connects to a Unix socket inside the box.
    ///
    /// # Errors
    ///
    /// No process listens on the socket, or the box is gone.
    pub fn unix(&self, path: &str) -> Result<UnixStream> {
        self.agent.connect(path)
    }

    /// Connects to the QMP socket of a QEMU inside the box, which may still
    /// be about to start.
    ///
    /// # Errors
    ///
    /// It offers no QMP within `limit`.
    pub fn qmp(&self, path: &str, limit: Duration) -> Result<Qmp> {
        let end = Instant::now() + limit;
        loop {
            match self.unix(path) {
                Ok(stream) => return Qmp::new(stream),
                Err(e) if Instant::now() > end => {
                    return Err(e.context(format!("no QMP at {path} within {limit:?}")))
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The QMP of the QEMU that is the box, to unplug functions and the like.
    ///
    /// # Errors
    ///
    /// The box is gone, or another thread uses the connection.
    pub fn machine(&self) -> Result<Qmp> {
        Qmp::new(UnixStream::connect(self.sockets.path().join("qmp"))?)
    }

    fn log(&self, text: &str) {
        let mut file = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for people; a full disk shows elsewhere.
        let _ = file.write_all(text.as_bytes());
    }
}
