// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Work of a layer that does not depend on each other, some of it at a time.

use std::{
    collections::BTreeMap,
    sync::{mpsc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::tally::Tally;

/// Does `work` on each of `items`, at most `width` at a time and begun in their order. `done` gets what
/// came of each, with its number, as it ends.
///
/// # Errors
///
/// That of `done`. Nothing is begun after it.
pub(super) fn each<T: Send, R: Send>(
    items: Vec<T>,
    width: usize,
    work: impl Fn(T) -> R + Sync,
    mut done: impl FnMut(usize, R) -> Result<()>,
) -> Result<()> {
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..width.max(1) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((number, item)) = next() {
                    // The receiver is gone only if `done` has failed.
                    if sender.send((number, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (number, result) in results {
            done(number, result)?;
        }
        Ok(())
    })
}

type Work<'a> = Box<dyn FnOnce(&mut Tally) -> Result<()> + Send + 'a>;

/// A run: its name, and what it does and counts.
pub(super) struct Job<'a> {
    name: String,
    work: Work<'a>,
}

/// How a run ended.
struct Done {
    name: String,
    tally: Tally,
    time: Duration,
}

impl<'a> Job<'a> {
    /// A run that counts by itself. If `work` fails, it could not be carried out.
    pub(super) fn new(
        name: impl Into<String>,
        work: impl FnOnce(&mut Tally) -> Result<()> + Send + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            work: Box::new(work),
        }
    }

    /// A run that counts as one test, which `what` describes.
    pub(super) fn one(
        name: impl Into<String>,
        what: &'a str,
        work: impl FnOnce(&str) -> Result<()> + Send + 'a,
    ) -> Self {
        let name = name.into();
        Self::new(name.clone(), move |tally| {
            tally.check(&format!("{name}: {what}"), work(&name));
            Ok(())
        })
    }

    fn run(self) -> Done {
        let start = Instant::now();
        let mut tally = Tally::default();
        if let Err(e) = (self.work)(&mut tally) {
            tally.fail(format!("{} could not run: {e:#}", self.name));
        }
        Done {
            name: self.name,
            tally,
            time: start.elapsed(),
        }
    }
}

/// Carries `jobs` out, at most `width` at a time. `say` gets a line for each; lines and failures come in
/// the order of the list, whichever run ends first.
///
/// # Errors
///
/// None: what goes wrong is a failure of its run.
pub(super) fn run(
    jobs: Vec<Job<'_>>,
    width: usize,
    tally: &mut Tally,
    mut say: impl FnMut(String),
) -> Result<()> {
    // Those that ended before one that was begun earlier.
    let mut early = BTreeMap::new();
    let mut due = 0_usize;
    each(jobs, width, Job::run, |number, done| {
        early.insert(number, done);
        while let Some(Done {
            name,
            tally: counted,
            time,
        }) = early.remove(&due)
        {
            say(format!("{name}: {counted} ({} s)", time.as_secs()));
            tally.add(counted);
            due += 1;
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        Barrier,
    };

    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_said_and_counted_comes_in_the_order_of_the_list() {
        // The first one ends when the second one has.
        let (sender, ended) = mpsc::channel();
        let jobs = vec![
            Job::one("slow", "it ends", move |_| {
                ended.recv()?;
                bail!("one")
            }),
            Job::new("quick", move |tally| {
                tally.pass();
                tally.fail("two");
                Ok(sender.send(())?)
            }),
            Job::new("none", |_| bail!("three")),
        ];
        let (mut tally, mut lines) = (Tally::default(), Vec::new());
        run(jobs, 2, &mut tally, |line| lines.push(line)).unwrap();
        assert_eq!((tally.passed, tally.failed), (1, 3));
        let failures = ["slow: it ends: one", "two", "none could not run: three"];
        assert_eq!(tally.failures, failures);
        let starts = ["slow: 0 passed, 1 failed", "quick: 1 passed, 1", "none: 0"];
        assert_eq!(lines.len(), starts.len());
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{lines:?}");
        }
    }

    #[test]
    fn there_are_as_many_at_a_time_as_allowed() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // Each needs another one beside it.
        let both = Barrier::new(2);
        let work = |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            both.wait();
            now.fetch_sub(1, Ordering::SeqCst);
        };
        let mut ended = 0;
        let count = |_, ()| {
            ended += 1;
            Ok(())
        };
        each((0..6).collect(), 2, work, count).unwrap();
        assert_eq!((ended, most.into_inner()), (6, 2));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let begun = AtomicUsize::new(0);
        let work = |_: u32| begun.fetch_add(1, Ordering::SeqCst);
        let stop = |_, _| bail!("stop");
        assert!(each((0..100_000).collect(), 1, work, stop).is_err());
        assert!(begun.into_inner() < 100_000);
    }
}
