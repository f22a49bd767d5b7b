// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls at the same time, again and again.

use std::{
    fs::File,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc, Mutex, PoisonError,
    },
    time::Duration,
};

use super::verdict::{Outcome, Stop};

/// What one thread does again and again.
pub struct Job<'a> {
    name: &'static str,
    step: Box<dyn FnMut() -> Outcome + Send + 'a>,
}

impl<'a> Job<'a> {
    /// A job; `step` is called until the time is over or it fails.
    pub fn new(name: &'static str, step: impl FnMut() -> Outcome + Send + 'a) -> Self {
        Self {
            name,
            step: Box::new(step),
        }
    }
}

/// Runs jobs side by side for some time; the answer says how often each was done.
///
/// # Errors
///
/// The first that a job ended with: the others are stopped then.
pub fn race(length: Duration, jobs: Vec<Job<'_>>) -> Outcome<String> {
    let over = AtomicBool::new(false);
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for mut job in jobs {
            let (over, done) = (&over, done.clone());
            threads.push(scope.spawn(move || {
                let mut times = 0u64;
                let mut result = Ok(());
                while result.is_ok() && !over.load(Ordering::Relaxed) {
                    result = (job.step)();
                    times += 1;
                }
                // Nobody listens any more after the first.
                let _ = done.send(());
                (job.name, times, result)
            }));
        }
        // Until the time is over or a job has failed.
        let _ = ended.recv_timeout(length);
        over.store(true, Ordering::Relaxed);
        let mut counts = Vec::new();
        let mut first = Ok(());
        for thread in threads {
            match thread.join() {
                Ok((name, times, result)) => {
                    counts.push(format!("{times} × {name}"));
                    let result = result.map_err(|e| e.within(name));
                    first = first.and(result);
                }
                Err(_) => {
                    let bug = anyhow::anyhow!("a thread of the case has a bug");
                    first = first.and(Err(Stop::Error(bug)));
                }
            }
        }
        first.map(|()| counts.join(", "))
    })
}

/// The data file that one thread opened last, for others to use.
#[derive(Default)]
pub struct Latest {
    file: Mutex<Option<Arc<File>>>,
    opened: AtomicU64,
}

impl Latest {
    /// Replaces the file, which is closed when its last user has done with it.
    pub fn put(&self, file: File) {
        let new = Some(Arc::new(file));
        let old = std::mem::replace(
            &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner),
            new,
        );
        // Not under the lock: closing is one of the calls that race.
        drop(old);
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// The file.
    pub fn get(&self) -> Option<Arc<File>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.clone()
    }

    /// How many there were.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

/// Can `chunks`, each read by one call, be put together to `whole`, each used once?
///
/// Backtracks where several chunks fit; `false` also when that takes too long, which needs a
/// stream that repeats itself over and over.
pub fn tiles(whole: &[u8], chunks: &[Vec<u8>]) -> bool {
    let total: usize = chunks.iter().map(Vec::len).sum();
    if total != whole.len() {
        return false;
    }
    let mut used = vec![false; chunks.len()];
    let mut patience = 1_000_000;
    fit(whole, chunks, &mut used, &mut patience)
}

fn fit(rest: &[u8], chunks: &[Vec<u8>], used: &mut [bool], patience: &mut u32) -> bool {
    if rest.is_empty() {
        return true;
    }
    for at in 0..chunks.len() {
        if used[at] || !rest.starts_with(&chunks[at]) {
            continue;
        }
        // A twin of one that did not lead anywhere does not either.
        if (0..at).any(|i| !used[i] && chunks[i] == chunks[at]) {
            continue;
        }
        if *patience == 0 {
            return false;
        }
        *patience -= 1;
        used[at] = true;
        if fit(&rest[chunks[at].len()..], chunks, used, patience) {
            return true;
        }
        used[at] = false;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::verdict::{deviation, Stop};

    #[test]
    fn jobs_run_until_the_time_is_over() {
        let count = AtomicU64::new(0);
        let step = || {
            count.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        };
        let jobs = vec![Job::new("one", step), Job::new("two", step)];
        let said = race(Duration::from_millis(50), jobs).unwrap();
        assert!(said.contains(" × one, ") && count.load(Ordering::Relaxed) > 2);
    }

    #[test]
    fn the_first_failure_ends_all() {
        let begin = std::time::Instant::now();
        let fail = || -> Outcome { deviation!("seen") };
        let idle = || {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        };
        let jobs = vec![Job::new("idle", idle), Job::new("bad", fail)];
        match race(Duration::from_secs(60), jobs) {
            Err(Stop::Deviation(seen)) => assert_eq!(seen, "bad: seen"),
            other => panic!("{other:?}"),
        }
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn chunks_are_put_together() {
        let chunks = |list: &[&[u8]]| list.iter().map(|c| c.to_vec()).collect::<Vec<_>>();
        assert!(tiles(b"abcabd", &chunks(&[b"abd", b"abc"])));
        assert!(tiles(b"aabaab", &chunks(&[b"a", b"aab", b"ab"])));
        assert!(!tiles(b"abcabd", &chunks(&[b"abc", b"abc"])));
        assert!(!tiles(b"abc", &chunks(&[b"abc", b"abc"])));
        assert!(!tiles(b"abc", &chunks(&[b"ab"])));
        assert!(!tiles(b"abcd", &chunks(&[b"ab", b"dc"])));
        let zeros = vec![0; 4096];
        assert!(tiles(&zeros, &vec![vec![0; 16]; 256]));
    }
}
