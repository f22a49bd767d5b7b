// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Serves a function on a unix socket.

mod session;

use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use crate::{
    function::{PciFunction, Port, ResetKind},
    vfio_user::UnixTransport,
};
use session::Session;

/// A function that is being served. Dropping it removes the socket from the file system.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    client: Arc<Mutex<Option<UnixStream>>>,
}

impl Server {
    /// Closes the connection to the client, if there is one: to the client the function is
    /// torn out. It may connect again.
    pub fn disconnect(&self) {
        let client = self.client.lock();
        if let Some(stream) = client.as_ref() {
            // An error says that the connection is gone already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves `function` on a socket at `path`, one client after the other, in a thread of its
/// own. A socket file that a dead process left behind is replaced.
///
/// # Errors
///
/// The socket cannot be made, or a living process serves it.
pub fn serve(path: &Path, port: Arc<Port>, function: Arc<dyn PciFunction>) -> io::Result<Server> {
    let listener = bind(path)?;
    let client = Arc::new(Mutex::new(None));
    let shared = Arc::clone(&client);
    thread::Builder::new()
        .name(format!("pci:{}", port.name()))
        .spawn(move || {
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => one_client(stream, &shared, &port, function.as_ref()),
                    Err(e) => {
                        log::error!("{}: accept: {e}", port.name());
                        // Out of descriptors, most likely: do not spin.
                        thread::sleep(std::time::Duration::from_secs(1));
                    }
                }
            }
        })?;
    Ok(Server {
        path: path.into(),
        client,
    })
}

fn one_client(
    stream: UnixStream,
    shared: &Mutex<Option<UnixStream>>,
    port: &Port,
    function: &dyn PciFunction,
) {
    *shared.lock() = stream.try_clone().ok();
    converse(stream, port, function);
    *shared.lock() = None;
}

/// Serves one client, until it has gone.
pub fn converse(stream: UnixStream, port: &Port, function: &dyn PciFunction) {
    log::info!("{}: client connected", port.name());
    match Session::new(port, function).run(&mut UnixTransport::new(stream)) {
        Ok(()) => log::info!("{}: client left", port.name()),
        Err(e) => log::warn!("{}: connection lost: {e}", port.name()),
    }
    // In this order: a function that is at rest does not stumble over missing memory.
    port.reset(function, ResetKind::ClientGone);
    port.interrupt().disable();
    port.memory().unmap_all();
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(e);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}
