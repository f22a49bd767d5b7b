// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `drive`: the calls of the uAPI one by one, for tests and for curious people.

use std::{
    fs, io,
    os::unix::{
        fs::FileTypeExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    device::Backend,
    discover::Sysfs,
    drive::{
        server::{End, Server},
        session::Session,
    },
    output::Ui,
};

/// Arguments of `drive`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The device.
    device: String,

    /// Take requests from clients of this Unix socket, one after the other, instead of from
    /// standard input.
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
}

/// Serves requests until `quit`, the end of standard input or a signal.
///
/// # Errors
///
/// There is no such device, or nobody to talk to. Calls that fail are answers.
pub fn run(args: &Args, backend: Backend, ui: &Ui) -> Result<()> {
    // A thread may be inside of a call for long, so no flag is asked: the kernel closes all files.
    ui.end_at_first_signal();
    let node = Sysfs::default().find(&args.device)?;
    let server = Server::new(Session::new(node.name, backend));
    let Some(path) = &args.listen else {
        return server
            .serve(io::stdin().lock(), io::stdout().lock())
            .map(drop);
    };
    let socket = Socket::new(path)?;
    for client in socket.0.incoming() {
        let client = client.context("cannot take a client")?;
        match converse(&server, &client) {
            Ok(End::Quit) => break,
            Ok(End::Hangup) => {}
            Err(e) => log::warn!("client: {e:#}"),
        }
    }
    Ok(())
}

fn converse(server: &Server, client: &UnixStream) -> Result<End> {
    server.serve(io::BufReader::new(client), client)
}

/// A listening socket that takes its name along when it goes.
struct Socket<'a>(UnixListener, &'a Path);

impl<'a> Socket<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let cannot_listen = || format!("cannot listen at {}", path.display());
        if is_left_over(path) {
            fs::remove_file(path).with_context(cannot_listen)?;
        }
        let listener = UnixListener::bind(path).with_context(cannot_listen)?;
        Ok(Self(listener, path))
    }
}

/// A socket that a program ended by a signal has left: it refuses connections.
fn is_left_over(path: &Path) -> bool {
    let socket = path.symlink_metadata();
    socket.is_ok_and(|metadata| metadata.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = fs::remove_file(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_left_over_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("socket");
        let first = Socket::new(&path).expect("free");
        assert!(Socket::new(&path).is_err(), "it is in use");
        assert!(UnixStream::connect(&path).is_ok(), "it was removed");
        drop(first);
        // As a program that is killed leaves it.
        drop(UnixListener::bind(&path).expect("left over"));
        let again = Socket::new(&path).expect("left over");
        assert!(UnixStream::connect(&path).is_ok());
        drop(again);
        fs::write(&path, "a file").expect("file");
        assert!(Socket::new(&path).is_err(), "a file is no socket");
        assert_eq!(fs::read(&path).expect("file"), b"a file");
    }
}
