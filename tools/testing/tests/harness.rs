// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The harness itself: a test that is killed leaves no process behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_testing::artefacts::Artefacts;

/// How long what a killed program leaves behind may take to go.
const LIMIT: Duration = Duration::from_secs(60);

/// Process ids and names of the children of a process.
fn children(of: u32) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_string_lossy().into_owned();
        // Other processes come and go.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let (Some((head, rest)), parent) = (stat.rsplit_once(')'), of.to_string()) else {
            continue;
        };
        if rest.split_whitespace().nth(1) == Some(&parent) {
            let name = head.split_once('(').map_or("", |(_, name)| name);
            found.push((pid, name.to_owned()));
        }
    }
    Ok(found)
}

/// The process runs; a dead one that is not reaped does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// Starts a program that holds a box with a NIC, and waits until the box is up.
fn holder(results: &Path) -> Result<Child> {
    let mut artefacts = Artefacts::find()?;
    artefacts.results = results.to_path_buf();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dlr-box"));
    command
        .args(["run", "--functions", "1", "--", "echo up; sleep 600"])
        .envs(artefacts.environment())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().context("no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line == "up\n", "the box said {line:?}");
    Ok(child)
}

#[test]
fn a_killed_test_leaves_no_process() -> Result<()> {
    // It has no time to tidy up.
    let results = tempfile::tempdir()?;
    let mut holder = holder(results.path())?;
    let left = children(holder.id())?;
    let names: Vec<_> = left.iter().map(|(_, name)| name.as_str()).collect();
    ensure!(
        left.len() == 2 && names.contains(&"dlr-nic"),
        "a NIC and a QEMU, not {names:?}"
    );
    holder.kill()?;
    holder.wait()?;
    let end = Instant::now() + LIMIT;
    while left.iter().any(|(pid, _)| runs(pid)) {
        if Instant::now() > end {
            let left: Vec<_> = left.into_iter().filter(|(pid, _)| runs(pid)).collect();
            for (pid, _) in &left {
                Command::new("kill").args(["-9", pid]).status()?;
            }
            anyhow::bail!("left behind after {LIMIT:?}: {left:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
