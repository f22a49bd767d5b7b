// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `drive`: the calls of the uAPI one by one, for tests and for curious people.

use std::{
    fs, io,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{atomic::AtomicBool, Arc},
};

use anyhow::{Context, Result};

use crate::{
    device::Backend,
    discover::Sysfs,
    drive::{
        server::{End, Server},
        session::Session,
    },
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
pub fn run(args: &Args, backend: Backend) -> Result<()> {
    end_at_signals()?;
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

/// A thread may be inside of a call for long, so no flag is asked: the kernel closes all files.
fn end_at_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let always = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register_conditional_shutdown(signal, 130, always)
            .context("cannot install a signal handler")?;
    }
    Ok(())
}

/// A listening socket that takes its name along when it goes.
struct Socket<'a>(UnixListener, &'a Path);

impl<'a> Socket<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self(listener, path))
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = fs::remove_file(self.1);
    }
}
