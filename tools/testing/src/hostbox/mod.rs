// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The host box: an emulated machine with the NIC in it, and what a test does
//! with it.
//!
//! ```no_run
//! use dlr_testing::{BoxConfig, HostBox};
//!
//! # fn main() -> anyhow::Result<()> {
//! let host = HostBox::start(BoxConfig::for_test().functions(2))?;
//! let functions = host.bind_dlr(0)?;
//! println!("{}", host.run(&format!("lspci -vv -s {}", functions[0]))?);
//! host.finish()
//! # }
//! ```
//!
//! A box that is dropped without [`HostBox::finish`] counts as failed: its
//! results are kept, and where they are is printed.

mod bind;
mod cable;
mod commands;
mod config;
mod evidence;
mod launch;
mod leaks;
mod lifeline;
mod nic;
mod qemu;
mod results;
mod stage;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Child,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use tempfile::TempDir;

pub use config::{BoxConfig, Cable, NicConfig, Placement};
#[cfg(test)]
pub(crate) use nic::tests::idle_nic;
pub use nic::Nic;
pub use qemu::{emulator, Location, Plug};

use crate::{agent::Agent, artefacts::Artefacts, splat};

/// How long the box may take to switch itself off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(60);

/// What is printed of a box that is started once more: see [`HostBox::start_with`].
pub(crate) const STARTED_AGAIN: &str = "a box is started again";

/// What the error says of a box that a test could not use at all.
pub(crate) const DID_NOT_COME_UP: &str = "the host box did not come up (see console.log, qemu.log)";

/// A running host box.
pub struct HostBox {
    config: BoxConfig,
    artefacts: Artefacts,
    agent: Agent,
    qemu: Child,
    nics: Vec<Nic>,
    plugs: Vec<Vec<Plug>>,
    results: PathBuf,
    sockets: TempDir,
    commands: Mutex<File>,
    finished: bool,
    keep: bool,
}

impl HostBox {
    /// Starts a box from the artefacts that the environment names or the
    /// cache holds.
    ///
    /// # Errors
    ///
    /// Names what is missing or did not start.
    pub fn start(config: BoxConfig) -> Result<Self> {
        Self::start_with(config, Artefacts::find()?)
    }

    /// Starts a box from these artefacts. One whose kernel stands still while it boots is started once more,
    /// in a folder of its own.
    ///
    /// # Errors
    ///
    /// Names what is missing or did not start.
    pub fn start_with(config: BoxConfig, artefacts: Artefacts) -> Result<Self> {
        match Self::boot_once(config.clone(), artefacts.clone()) {
            Err(e) if e.is::<evidence::StoodStill>() => {
                // Past the test framework, which keeps what passing tests print.
                let _ = writeln!(io::stderr(), "{STARTED_AGAIN}: {e:#}");
                Self::boot_once(config, artefacts)
            }
            result => result,
        }
    }

    fn boot_once(config: BoxConfig, artefacts: Artefacts) -> Result<Self> {
        let results = results::results_folder(&artefacts.results, &config.name)?;
        let started = Self::boot(config, artefacts, &results);
        if started.is_err() {
            results::announce(&results);
        }
        started
    }

    fn boot(mut config: BoxConfig, artefacts: Artefacts, results: &Path) -> Result<Self> {
        let options = fs::read_to_string(artefacts.kernel.join(".config"))?;
        config.kernel_args.extend(launch::workarounds(&options));
        let sockets = tempfile::Builder::new().prefix("dlr-").tempdir_in("/tmp")?;
        let stage = results.join("stage");
        stage::fill(&stage, &artefacts, &config.files)?;
        let initramfs = results.join("initramfs.cpio");
        stage::write_initramfs(&initramfs, &artefacts)?;

        let mut nics = Vec::new();
        for (number, nic) in config.nics.iter().enumerate() {
            nics.push(Nic::start(
                &artefacts.programs.join("dlr-nic"),
                nic,
                sockets.path().join(format!("nic{number}")),
                results.join(format!("nic{number}.log")),
            )?);
        }

        let paths = qemu::Paths {
            rootfs: artefacts.rootfs.clone(),
            kernel: artefacts.bzimage(),
            initramfs,
            stage,
            results: results.to_path_buf(),
            sockets: sockets.path().to_path_buf(),
        };
        let (words, plugs) = qemu::command_line(&config, &paths)?;
        let listener = UnixListener::bind(sockets.path().join("agent"))?;
        listener.set_nonblocking(true)?;
        let mut qemu = launch::start_qemu(&words, &paths, config.console)?;
        let greeted = launch::accept(&listener, &mut qemu, config.boot_limit)
            .and_then(|stream| Agent::greet(stream, config.boot_limit));
        let agent = match greeted {
            Ok(agent) => agent,
            Err(e) => {
                evidence::last_words(results, &mut qemu);
                let stood_still = evidence::stood_still(results, &mut qemu, &mut nics);
                // The first error is the one to tell.
                let _ = qemu.kill();
                let _ = qemu.wait();
                let e = e.context(DID_NOT_COME_UP);
                return Err(if stood_still {
                    e.context(evidence::StoodStill)
                } else {
                    e
                });
            }
        };
        let host = Self {
            commands: Mutex::new(File::create(results.join("commands.log"))?),
            config,
            artefacts,
            agent,
            qemu,
            nics,
            plugs,
            results: results.to_path_buf(),
            sockets,
            finished: false,
            keep: std::env::var_os("DLR_KEEP").is_some(),
        };
        host.plug_cable()?;
        Ok(host)
    }

    /// The agent inside, for what the methods here do not cover.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// What the box was started from.
    pub fn artefacts(&self) -> &Artefacts {
        &self.artefacts
    }

    /// Folder of this run; the box sees it as `/results`.
    pub fn results(&self) -> &Path {
        &self.results
    }

    /// The NICs.
    pub fn nics(&mut self) -> &mut [Nic] {
        &mut self.nics
    }

    /// A NIC.
    ///
    /// # Errors
    ///
    /// There is none of this number.
    pub fn nic(&self, number: usize) -> Result<&Nic> {
        self.nics
            .get(number)
            .with_context(|| format!("the box has no NIC {number}"))
    }

    /// Functions of a NIC as plugged in, the management function first.
    ///
    /// # Errors
    ///
    /// There is no NIC of this number.
    pub fn plugs(&self, nic: usize) -> Result<&[Plug]> {
        self.plugs
            .get(nic)
            .map(Vec::as_slice)
            .with_context(|| format!("the box has no NIC {nic}"))
    }

    /// The kernel's log so far.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn kernel_log(&self) -> Result<String> {
        let bytes = fs::read(self.results.join("console.log"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Fails if the kernel complained, or if a NIC does not run as it should.
    ///
    /// # Errors
    ///
    /// Says what was found.
    pub fn check(&mut self) -> Result<()> {
        for nic in &mut self.nics {
            nic.check()?;
        }
        self.check_log()
    }

    /// Fails if the kernel complained.
    ///
    /// # Errors
    ///
    /// Says what was found.
    pub fn check_log(&self) -> Result<()> {
        let log = self.kernel_log()?;
        let found = splat::complaints(&log, &self.config.expected_complaints);
        let shown: Vec<String> = found
            .iter()
            .take(10)
            .map(|(number, line)| format!("console.log:{number}: {line}"))
            .collect();
        ensure!(
            found.is_empty(),
            "the kernel complained:\n{}",
            shown.join("\n")
        );
        Ok(())
    }

    /// Ends a test that went well: looks for memory that leaked, if the kernel can tell, switches the
    /// box off, judges the kernel log, and removes the results (kept if `DLR_KEEP` is set).
    ///
    /// # Errors
    ///
    /// The kernel complained, memory leaked, or the box does not switch off.
    pub fn finish(mut self) -> Result<()> {
        self.check()?;
        self.check_leaks()?;
        self.power_off()?;
        self.check_log()?;
        self.finished = true;
        Ok(())
    }

    /// The same for a box that was made to go wrong: nothing is judged.
    ///
    /// # Errors
    ///
    /// The box does not switch off.
    pub(crate) fn finish_unjudged(mut self) -> Result<()> {
        self.power_off()?;
        self.finished = true;
        Ok(())
    }

    fn power_off(&mut self) -> Result<()> {
        self.agent.power_off()?;
        let end = Instant::now() + POWER_OFF_LIMIT;
        while self.qemu.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "the host box does not switch off");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Keeps the folder of results even if all goes well, with the logs of now.
    pub fn keep_results(&mut self) {
        let _ = evidence::gather(&self.agent, &self.nics, &self.results);
        self.keep = true;
    }

    /// Waits until the box ends by itself.
    ///
    /// # Errors
    ///
    /// Its QEMU failed.
    pub fn wait(mut self) -> Result<()> {
        let status = self.qemu.wait()?;
        ensure!(status.success(), "the host box ended with {status}");
        self.finished = true;
        Ok(())
    }
}

impl Drop for HostBox {
    fn drop(&mut self) {
        if !self.finished {
            let answered = evidence::gather(&self.agent, &self.nics, &self.results);
            if !answered {
                evidence::last_words(&self.results, &mut self.qemu);
            }
        }
        // All of these may have ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        self.nics.clear();
        // Links to programs and modules, of no use once the box is gone.
        let _ = fs::remove_dir_all(self.results.join("stage"));
        let _ = fs::remove_file(self.results.join("initramfs.cpio"));
        if self.finished && !self.keep {
            let _ = fs::remove_dir_all(&self.results);
        } else {
            results::announce(&self.results);
        }
    }
}
