// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The cache: entries that are complete or absent.
//!
//! An entry is built in a folder aside, under a lock, and renamed when it is
//! whole. What an interrupted run left behind is removed by the next builder
//! of that entry, who holds the lock and so knows that nobody works on it.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{ensure, Context, Result};
use rustix::{
    fs::{flock, statvfs, FlockOperation},
    io::{fcntl_setfd, FdFlags},
};
use sha2::{Digest, Sha256};

/// Entries of other keys are kept this long after their last use, so that
/// going back and forth between branches does not rebuild a kernel each time.
const KEEP_UNUSED: Duration = Duration::from_secs(14 * 24 * 3600);

/// Touched inside an entry whenever it is used.
const USED: &str = ".used";

/// Hash of everything that goes into an entry, in a form fit for a file name.
pub fn key<S: AsRef<[u8]>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Name of the folder for products of one work tree. The Makefile computes
/// the same.
pub fn tree_name(tree: &Path) -> String {
    hex(&Sha256::digest(tree.as_os_str().as_encoded_bytes()))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().take(6).map(|b| format!("{b:02x}")).collect()
}

/// Held while something is built or used exclusively; released when dropped,
/// and by the kernel when the process dies.
#[must_use]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Lets the programs started from now on hold the lock too. If this
    /// process is killed and a compiler that it started lives on, the next run
    /// waits for that one to end before it cleans up.
    fn share_with_children(&self) -> Result<()> {
        fcntl_setfd(&self.file, FdFlags::empty()).context("cannot share a lock")
    }
}

/// The cache folder of this user.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `${XDG_CACHE_HOME:-~/.cache}/dlr`.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn open() -> Result<Self> {
        let base = match env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
            Some(base) => PathBuf::from(base),
            None => PathBuf::from(
                env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
            )
            .join(".cache"),
        };
        Self::at(base.join("dlr"))
    }

    /// Opens a cache elsewhere.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("locks")).with_context(|| {
            format!(
                "cannot write to the cache {}: set XDG_CACHE_HOME to a folder that you own",
                root.display()
            )
        })?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the lock of that name; says so if it must wait.
    ///
    /// # Errors
    ///
    /// The lock file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.root.join("locks").join(name);
        let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            eprintln!("{name}: waiting for another run that works on it");
            flock(&file, FlockOperation::LockExclusive).context("flock")?;
        }
        Ok(Lock { file })
    }

    /// The entry, built by `build` unless it is there. `build` gets an empty
    /// folder to fill; its `.log` is kept beside the entry if it fails.
    ///
    /// # Errors
    ///
    /// Those of `build`, or the disk has less than `need_gib` free.
    pub fn entry(
        &self,
        name: &str,
        key: &str,
        need_gib: u64,
        build: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let family = self.root.join(name);
        let whole = family.join(key);
        if whole.is_dir() {
            touch(&whole);
            return Ok(whole);
        }
        let lock = self.lock(name)?;
        if whole.is_dir() {
            touch(&whole);
            return Ok(whole);
        }
        fs::create_dir_all(&family)?;
        let aside = family.join("building");
        remove_tree(&aside)?;
        self.check_space(name, need_gib)?;
        fs::create_dir(&aside)?;
        lock.share_with_children()?;
        build(&aside).with_context(|| format!("cannot build `{name}`"))?;
        touch(&aside);
        fs::rename(&aside, &whole)?;
        prune(&family, &whole);
        drop(lock);
        Ok(whole)
    }

    fn check_space(&self, name: &str, need_gib: u64) -> Result<()> {
        let stat = statvfs(&self.root)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize) >> 30;
        ensure!(
            free >= need_gib,
            "`{name}` needs {need_gib} GiB free at {}, there are {free}: make room or set \
             XDG_CACHE_HOME to a larger disk",
            self.root.display()
        );
        Ok(())
    }
}

/// Notes that an entry is in use; a read-only cache is no reason to fail.
fn touch(entry: &Path) {
    let _ = fs::write(entry.join(USED), "");
}

/// Removes entries that were not used for long. Failing to is harmless.
fn prune(family: &Path, keep: &Path) {
    let Ok(entries) = fs::read_dir(family) else {
        return;
    };
    for path in entries.flatten().map(|e| e.path()) {
        let used = fs::metadata(path.join(USED)).and_then(|m| m.modified());
        let age = used
            .ok()
            .and_then(|used| SystemTime::now().duration_since(used).ok());
        if path != keep && age.is_some_and(|age| age > KEEP_UNUSED) {
            let _ = remove_tree(&path);
        }
    }
}

/// Removes a file, or a folder even where its own folders lack write permission.
///
/// # Errors
///
/// Something in it belongs to somebody else.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(meta) if !meta.is_dir() => {
            return fs::remove_file(path).with_context(|| format!("{}", path.display()));
        }
        Ok(_) => {}
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    make_writable(path);
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn make_writable(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread};

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("dlr")).unwrap();
        (folder, cache)
    }

    #[test]
    fn keys_depend_on_every_part_and_on_where_it_ends() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
        assert_eq!(key(["a", "b"]), key(["a", "b"]));
    }

    #[test]
    fn an_entry_is_built_once() {
        let (_folder, cache) = cache();
        let build = |p: &Path| Ok(fs::write(p.join("x"), "1")?);
        let entry = cache.entry("a", "k", 0, build).unwrap();
        let again = cache
            .entry("a", "k", 0, |_| anyhow::bail!("built twice"))
            .unwrap();
        assert_eq!(entry, again);
        assert_eq!(fs::read_to_string(entry.join("x")).unwrap(), "1");
    }

    #[test]
    fn what_failed_or_was_interrupted_is_not_used() {
        let (_folder, cache) = cache();
        let failed = cache.entry("a", "k", 0, |p| {
            fs::write(p.join("half"), "")?;
            anyhow::bail!("interrupted")
        });
        assert!(failed.is_err());
        let entry = cache.entry("a", "k", 0, |_| Ok(())).unwrap();
        assert!(!entry.join("half").exists());
    }

    #[test]
    fn concurrent_runs_build_once() {
        let (_folder, cache) = cache();
        let (sender, builds) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (cache, sender) = (cache.clone(), sender.clone());
                thread::spawn(move || {
                    cache.entry("a", "k", 0, |_| {
                        thread::sleep(Duration::from_millis(30));
                        Ok(sender.send(())?)
                    })
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        drop(sender);
        assert_eq!(builds.iter().count(), 1);
    }

    #[test]
    fn a_child_that_outlives_a_killed_run_keeps_the_lock() {
        let (_folder, cache) = cache();
        let lock = cache.lock("a").unwrap();
        lock.share_with_children().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("0.3")
            .spawn()
            .unwrap();
        drop(lock);
        let start = std::time::Instant::now();
        drop(cache.lock("a").unwrap());
        assert!(start.elapsed() >= Duration::from_millis(100));
        child.wait().unwrap();
    }

    #[test]
    fn a_disk_that_is_too_small_is_named() {
        let (_folder, cache) = cache();
        let error = cache.entry("a", "k", 1 << 30, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("GiB free"), "{error}");
    }
}
