// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The file that a command writes for its user.
//!
//! A regular file appears whole or not at all: the data goes to a temporary file beside it, which
//! takes its name in the end, and its owner and rights. Everything else that a path can name is written in place: a device, a
//! pipe, `/dev/stdout`, a file that is open in a process (`/proc/…/fd/N`). A symbolic link stays what
//! it is; the file that it leads to is the one that is written.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, IsTerminal, Write},
    os::{
        fd::AsFd,
        unix::fs::{fchown, FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use anyhow::{bail, Context, Result};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A regular file, or a name that is free.
    Regular(PathBuf),
    /// Something that has to be opened and written as it is.
    InPlace(PathBuf),
}

/// An open output file. Without [`OutFile::finish`] a regular file stays as it was.
#[derive(Debug)]
pub enum OutFile {
    /// Takes the place of a regular file.
    Replace {
        /// The data until then.
        temporary: NamedTempFile,
        /// The name that it gets.
        target: PathBuf,
    },
    /// Is written as it is.
    InPlace {
        /// The file.
        file: File,
        /// It is this program's standard output.
        stdout: bool,
    },
}

/// Folder of `path`.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A link in procfs leads to an open file, and its text is only a description of it.
fn is_in_procfs(path: &Path) -> bool {
    rustix::fs::statfs(folder(path)).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

fn resolve(path: &Path) -> io::Result<Place> {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let kind = match at.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Place::Regular(at)),
            Err(e) => return Err(e),
        };
        if kind.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if kind.is_file() {
            return Ok(Place::Regular(at));
        }
        if !kind.is_symlink() || is_in_procfs(&at) {
            return Ok(Place::InPlace(at));
        }
        at = folder(&at).join(fs::read_link(&at)?);
    }
    Err(Errno::LOOP.into())
}

/// Opens what is no regular file, or what `/proc` says is open. The file, and whether it is our
/// standard output.
fn open_in_place(path: &Path) -> io::Result<(File, bool)> {
    let metadata = path.metadata()?;
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let own = stdout.metadata()?;
    let device = metadata.file_type().is_char_device() && !stdout.is_terminal();
    if !device && (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()) {
        // The shell's own descriptor: it may append, and others may share its position.
        return Ok((stdout, true));
    }
    // As a shell opens for `>`, but nothing is created.
    let mut options = OpenOptions::new();
    options.write(true).truncate(metadata.is_file());
    options.open(path).map(|file| (file, false))
}

impl OutFile {
    /// Opens `path`. A pipe is waited for until it has a reader.
    ///
    /// # Errors
    ///
    /// It cannot be written, or it is a terminal.
    pub fn open(path: &Path) -> Result<Self> {
        let cannot_write = || format!("cannot write to {}", path.display());
        match resolve(path).with_context(cannot_write)? {
            Place::Regular(target) => {
                let folder = folder(&target);
                let temporary = tempfile::Builder::new()
                    .prefix(".vfio-mig-")
                    .tempfile_in(folder)
                    .with_context(|| format!("cannot create a file in {}", folder.display()))?;
                Ok(Self::Replace { temporary, target })
            }
            Place::InPlace(place) => {
                let (file, stdout) = open_in_place(&place).with_context(cannot_write)?;
                if file.is_terminal() {
                    bail!("{} is a terminal, and the data is binary", path.display());
                }
                Ok(Self::InPlace { file, stdout })
            }
        }
    }

    /// Is it this program's standard output? Then nothing else may be printed there.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Self::InPlace { stdout: true, .. })
    }

    /// Ends the file: it is on the disk, and has its name.
    ///
    /// # Errors
    ///
    /// Writing failed.
    pub fn finish(self) -> Result<()> {
        let (temporary, target) = match self {
            Self::Replace { temporary, target } => (temporary, target),
            Self::InPlace { file, .. } => return in_place_on_disk(&file),
        };
        if let Ok(old) = target.metadata() {
            keep_rights(temporary.as_file(), &old).context("cannot keep the file's rights")?;
        }
        let sync = temporary.as_file().sync_all();
        sync.context("cannot write to the disk")?;
        let Err(failed) = temporary.persist(&target) else {
            return Ok(());
        };
        // A file that is a mount point, as containers have them, keeps its name.
        if Errno::from_io_error(&failed.error) != Some(Errno::BUSY) {
            return Err(failed.error)
                .with_context(|| format!("cannot create {}", target.display()));
        }
        copy_over(&failed.file, &target)
            .with_context(|| format!("cannot write to {}", target.display()))
    }
}

/// Whoever could read the file that is replaced can read the new one. One that was not there is its
/// owner's alone: an image holds what the guest had in its device.
fn keep_rights(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid())
        && fchown(file, Some(old.uid()), Some(old.gid())).is_err()
    {
        // Another owner's rights would be rights of other people.
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(old.mode() & 0o777))
}

/// Pipes and most devices have no fsync (EINVAL).
fn in_place_on_disk(file: &File) -> Result<()> {
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_block_device() {
        file.sync_all().context("cannot write to the disk")?;
    }
    Ok(())
}

fn copy_over(from: &NamedTempFile, target: &Path) -> io::Result<()> {
    let mut to = OpenOptions::new().write(true).truncate(true).open(target)?;
    io::copy(&mut from.reopen()?, &mut to)?;
    to.sync_all()
}

impl Write for OutFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Replace { temporary, .. } => temporary.write(buf),
            Self::InPlace { file, .. } => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "outfile_tests.rs"]
mod tests;
