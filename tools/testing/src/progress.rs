// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs long commands and shows that they are alive.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        mpsc::{self, Receiver},
        LazyLock,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Without a terminal, one line this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Lines of output that the error of a failed step repeats.
const LAST_LINES: usize = 25;

/// The spinners of steps that run side by side, a line each.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Shows one step: a spinner on a terminal, else a line now and then.
struct Display {
    name: String,
    start: Instant,
    reported: Instant,
    bar: Option<ProgressBar>,
}

impl Display {
    fn new(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = SPINNERS.add(ProgressBar::new_spinner().with_message(name.to_string()));
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_string());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            eprintln!("{name} ...");
        }
        Self {
            name: name.into(),
            start: Instant::now(),
            reported: Instant::now(),
            bar,
        }
    }

    fn line(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.trim().to_string()),
            None if self.reported.elapsed() >= REPORT_EVERY => {
                self.reported = Instant::now();
                let seconds = self.start.elapsed().as_secs();
                let line: String = line.trim().chars().take(100).collect();
                eprintln!("{} ... {seconds} s: {line}", self.name);
            }
            None => {}
        }
    }

    fn end(self, good: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let ending = if good { "done" } else { "FAILED" };
        eprintln!(
            "{}: {ending} in {} s",
            self.name,
            self.start.elapsed().as_secs()
        );
    }
}

/// Runs `command` with its output going to `log`; on failure the error holds
/// the last lines and the log's path.
///
/// # Errors
///
/// The command cannot be started or fails.
pub fn step(name: &str, command: &mut Command, log: &Path) -> Result<()> {
    let (mut child, mut file) = start(command, log).with_context(|| name.to_string())?;
    let lines = lines_of(&mut child);
    let mut display = Display::new(name);
    let mut last = VecDeque::new();
    for line in lines {
        writeln!(file, "{line}")?;
        display.line(&line);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait()?;
    display.end(status.success());
    if !status.success() {
        let last: Vec<_> = last.into();
        let program = command.get_program().to_string_lossy();
        bail!(
            "{name}: `{program}` failed ({status}); the end of {}:\n{}",
            log.display(),
            last.join("\n")
        );
    }
    Ok(())
}

/// Runs `command` with all its output shown and also written to `log`; whether
/// it succeeded.
///
/// # Errors
///
/// The command cannot be started.
pub fn tee(command: &mut Command, log: &Path) -> Result<bool> {
    let (mut child, mut file) = start(command, log)?;
    for line in lines_of(&mut child) {
        println!("{line}");
        writeln!(file, "{line}")?;
    }
    Ok(child.wait()?.success())
}

/// Runs `command` with its output going to `log` only; whether it succeeded.
///
/// # Errors
///
/// The command cannot be started.
pub fn quietly(command: &mut Command, log: &Path) -> Result<bool> {
    let (mut child, mut file) = start(command, log)?;
    for line in lines_of(&mut child) {
        writeln!(file, "{line}")?;
    }
    Ok(child.wait()?.success())
}

/// Starts a command whose output is to be read, and opens its log.
fn start(command: &mut Command, log: &Path) -> Result<(Child, File)> {
    let file = File::create(log).with_context(|| format!("{}", log.display()))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let program = command.get_program().to_string_lossy();
    Ok((
        child.with_context(|| format!("cannot start `{program}`"))?,
        file,
    ))
}

/// Lines of both output streams, as they come.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|p| Box::new(p) as _),
        child.stderr.take().map(|p| Box::new(p) as _),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                // Nobody reads any more once the step was given up.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    lines
}

/// Runs `work` as a shown step.
///
/// # Errors
///
/// Those of `work`.
pub fn task<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let display = Display::new(name);
    let result = work();
    display.end(result.is_ok());
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_its_last_lines() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let error = step("x", &mut command, log.path()).unwrap_err().to_string();
        assert!(error.contains("one") && error.contains("two"), "{error}");
        assert!(std::fs::read_to_string(log.path()).unwrap().contains("two"));
    }
}
