// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Another process that holds a data file: this program itself, which gets the file over a Unix
//! socket (SCM_RIGHTS).
//!
//! The holder's standard input is the socket. A byte is a request; with the first comes the file.
//!
//! | request | answer |
//! | --- | --- |
//! | `r` | u32 errno or 0, u64 length, what could be read until the end, ENOMSG or an error |
//! | `w`, u64 length, bytes | u32 errno or 0, u64 0 |

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
};

use anyhow::{bail, Context, Result};
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Name of the hidden command.
pub const COMMAND: &str = "hold-data-file";

/// The other process.
pub struct Holder {
    child: Child,
    socket: UnixStream,
}

/// How a call in the other process ended: its errno, 0 for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The errno, 0 for the end of the stream.
    pub errno: i32,
    /// What was read.
    pub data: Vec<u8>,
}

impl Holder {
    /// Starts it and gives it a copy of `file`.
    ///
    /// # Errors
    ///
    /// This program cannot be started once more.
    pub fn new(file: &File) -> Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let program = std::env::current_exe().context("where is this program?")?;
        let child = Command::new(program)
            .arg(COMMAND)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start another process")?;
        let holder = Self { child, socket };
        give(&holder.socket, file)?;
        Ok(holder)
    }

    /// Reads there until the stream ends or fails.
    ///
    /// # Errors
    ///
    /// The other process is gone.
    pub fn read(&mut self) -> Result<Answer> {
        self.socket.write_all(b"r")?;
        self.answer()
    }

    /// Writes all of `data` there.
    ///
    /// # Errors
    ///
    /// The other process is gone.
    pub fn write(&mut self, data: &[u8]) -> Result<Answer> {
        self.socket.write_all(b"w")?;
        self.socket.write_all(&(data.len() as u64).to_le_bytes())?;
        self.socket.write_all(data)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut errno = [0; 4];
        self.socket
            .read_exact(&mut errno)
            .context("the other process gave no answer")?;
        let length = length(&mut self.socket)?;
        let mut data = Vec::new();
        (&self.socket).take(length).read_to_end(&mut data)?;
        Ok(Answer {
            errno: i32::from_le_bytes(errno),
            data,
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Ends at the end of its input; this makes sure that no zombie is left.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Err(e) = self.child.kill().and_then(|()| self.child.wait()) {
            log::warn!("the other process: {e}");
        }
    }
}

fn length(mut from: impl Read) -> io::Result<u64> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    Ok(u64::from_le_bytes(length))
}

/// Sends a copy of a file.
///
/// # Errors
///
/// Nothing takes it.
pub(crate) fn give(socket: &UnixStream, file: impl AsFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        bail!("no space for a file descriptor");
    }
    sendmsg(
        socket,
        &[IoSlice::new(b"f")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// Waits for a file.
///
/// # Errors
///
/// Something else came, or nothing.
pub(crate) fn take(socket: impl AsFd) -> Result<File> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let mut data = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            if let Some(file) = files.next() {
                return Ok(File::from(file));
            }
        }
    }
    bail!("no file came over the socket")
}

/// The other process: serves until its input ends.
///
/// # Errors
///
/// Its standard input is no socket, or no file came over it.
pub fn serve() -> Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let file = take(&socket)?;
    let mut request = [0];
    while (&socket).read(&mut request)? != 0 {
        let answer = match request {
            [b'r'] => read_all(&file),
            [b'w'] => {
                let mut data = Vec::new();
                let length = length(&socket)?;
                (&socket).take(length).read_to_end(&mut data)?;
                Answer {
                    errno: errno((&file).write_all(&data)),
                    data: Vec::new(),
                }
            }
            other => bail!("unknown request {other:?}"),
        };
        let mut out = &socket;
        out.write_all(&answer.errno.to_le_bytes())?;
        out.write_all(&(answer.data.len() as u64).to_le_bytes())?;
        out.write_all(&answer.data)?;
    }
    Ok(())
}

fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(e) => e
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error()),
    }
}

fn read_all(mut file: &File) -> Answer {
    let (mut data, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Answer { errno: 0, data },
            Ok(n) => data.extend(buffer.iter().take(n)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => {
                return Answer {
                    errno: errno::<()>(Err(e)),
                    data,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_over_a_socket() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"state").unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        give(&here, &file).unwrap();
        let taken = take(&there).unwrap();
        // The same open file: the position is shared.
        assert_eq!(read_all(&taken).data, b"");
        std::io::Seek::rewind(&mut file).unwrap();
        let answer = read_all(&taken);
        assert_eq!((answer.errno, answer.data), (0, b"state".to_vec()));
    }
}
