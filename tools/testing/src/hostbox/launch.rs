// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Starts the box's QEMU and waits for it to answer.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};

use super::{lifeline, qemu::Paths};

/// Starts it with its output going to `qemu.log` and its command line kept in
/// `qemu.cmd`.
pub(super) fn start_qemu(words: &[OsString], paths: &Paths, console: bool) -> Result<Child> {
    let log = paths.results.join("qemu.log");
    let output = File::create(&log)?;
    let mut command = lifeline::command(words);
    command
        .env(
            "QEMU_MODULE_DIR",
            paths.rootfs.join("usr/lib/x86_64-linux-gnu/qemu"),
        )
        .stderr(output.try_clone()?);
    if !console {
        command.stdin(Stdio::null()).stdout(output);
    }
    let text: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    fs::write(paths.results.join("qemu.cmd"), text.join("\n"))?;
    lifeline::spawn(command)
        .with_context(|| format!("cannot start QEMU of {}", paths.rootfs.display()))
}

/// Waits for QEMU to connect the agent's channel.
pub(super) fn accept(
    listener: &UnixListener,
    qemu: &mut Child,
    limit: Duration,
) -> Result<UnixStream> {
    let end = Instant::now() + limit;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e.into()),
        }
        if let Some(status) = qemu.try_wait()? {
            bail!("QEMU ended at once ({status})");
        }
        ensure!(Instant::now() < end, "QEMU does not start");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Words for the command line of a kernel with this configuration.
///
/// `identify_cpu()` (`arch/x86/kernel/cpu/common.c`) clears all capabilities of the boot processor for
/// a moment, with interrupts enabled. If an interrupt comes then, `pgtable_l5_enabled()` is false, and
/// KASAN takes each address of a kernel with five levels of page tables for a wild one.
pub(super) fn workarounds(configuration: &str) -> Option<String> {
    configuration
        .lines()
        .any(|line| line == "CONFIG_KASAN=y")
        .then(|| "no5lvl".into())
}
