// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the user sees: a table for people, JSON for programs; progress on stderr.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use anyhow::{bail, Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::advice::one_line;

/// What a command has to say at its end.
pub trait Report: Serialize {
    /// For people; ends with a newline.
    fn human(&self) -> String;

    /// Did the device do what it should? `false` makes the exit code 1.
    fn passed(&self) -> bool {
        true
    }
}

/// How to talk to the user, and whether they want us to stop.
#[derive(Clone)]
pub struct Ui {
    /// JSON on standard output, no progress.
    pub json: bool,
    stop: Arc<AtomicBool>,
    /// Standard output takes data, and words go to standard error.
    data_on_stdout: Arc<AtomicBool>,
}

impl Ui {
    /// From now on SIGINT and SIGTERM ask the command to stop, see [`crate::signals`].
    ///
    /// # Errors
    ///
    /// The signals cannot be watched.
    pub fn new(json: bool) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        crate::signals::watch(Arc::clone(&stop))?;
        Ok(Self {
            json,
            stop,
            data_on_stdout: Arc::default(),
        })
    }

    /// From now on standard output is for data: neither a report nor an error goes there.
    pub fn give_stdout_to_data(&self) {
        self.data_on_stdout.store(true, Ordering::Relaxed);
    }

    /// For a command that has nothing to end in order: the first signal ends the program.
    pub fn end_at_first_signal(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Has the user asked to stop?
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error when the user has asked to stop.
    ///
    /// # Errors
    ///
    /// They have.
    pub fn check(&self) -> Result<()> {
        if self.stopped() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps, but not beyond a signal. `false`: the user wants to stop.
    pub fn sleep(&self, time: Duration) -> bool {
        let end = std::time::Instant::now() + time;
        while !self.stopped() {
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        false
    }

    /// A bar of bytes, seen only on a terminal.
    pub fn bytes_bar(&self, what: &str, total: u64) -> ProgressBar {
        let bar = self.hidden_or(ProgressBar::new(total));
        if let Ok(style) = ProgressStyle::with_template(
            "{msg:12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}",
        ) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }

    /// A line that says what goes on, seen only on a terminal.
    pub fn spinner(&self) -> ProgressBar {
        self.hidden_or(ProgressBar::new_spinner())
    }

    fn hidden_or(&self, bar: ProgressBar) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar
    }

    /// Prints one report, to standard output unless that is for data.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn print<R: Report>(&self, report: &R) -> Result<()> {
        let text = if self.json {
            serde_json::to_string(report)? + "\n"
        } else {
            report.human()
        };
        self.write(&text)
    }

    /// Prints why the command could not be carried out: for people on standard error, and with
    /// `--json` also where a report would be.
    pub fn print_error(&self, error: &anyhow::Error) {
        // Closed outputs have nobody who could be told.
        if self.json {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            let json = serde_json::json!({ "error": error.to_string(), "causes": causes });
            let _ = self.write(&format!("{json}\n"));
        }
        let _ = writeln!(io::stderr(), "vfio-mig: {}", one_line(error));
    }

    fn write(&self, text: &str) -> Result<()> {
        if self.data_on_stdout.load(Ordering::Relaxed) {
            return io::stderr()
                .write_all(text.as_bytes())
                .context("cannot write to standard error");
        }
        io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write to standard output")
    }
}

/// Columns as wide as their contents, two spaces between.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "bb".into()],
            vec!["ccc".into(), "d".into()],
        ];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
        assert_eq!(table(&[]), "");
    }
}
