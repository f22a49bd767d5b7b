// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Serves a function to user-mode Linux: a vhost-user device with the two queues of
//! `arch/um/drivers/virtio_pcidev.c`, one for accesses and one for interrupts.
//!
//! There is no IOMMU. A management function reaches all memory of its client, at the physical
//! addresses; a data function, which a user of VFIO drives, reaches what its [`window`] maps.

mod backend;
mod message;
mod vectors;
mod window;

use std::{io, os::fd::AsRawFd, path::Path, sync::Arc, thread, time::Duration};

use vhost::vhost_user::Listener;
use vhost_user_backend::VhostUserDaemon;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use crate::function::{PciFunction, Port, ResetKind};
use backend::{failed, Backend, Memory, FIRST_VECTOR};

/// What DMA of a function reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All memory of the client, at its physical addresses.
    All,
    /// What is mapped through a BAR of the function.
    Window,
}

/// Serves `function` on a vhost-user socket at `path`, one client after the other, in a thread of
/// its own.
///
/// # Errors
///
/// The socket cannot be made.
pub fn serve(
    path: &Path,
    port: Arc<Port>,
    function: Arc<dyn PciFunction>,
    reach: Reach,
) -> io::Result<()> {
    if reach == Reach::Window {
        port.config().add_bar(window::BAR, window::SIZE);
    }
    let mut listener = Listener::new(path, true).map_err(failed)?;
    thread::Builder::new()
        .name(format!("vhost:{}", port.name()))
        .spawn(move || loop {
            if let Err(e) = one_client(&mut listener, &port, &function, reach) {
                log::warn!("{}: {e}", port.name());
                thread::sleep(Duration::from_millis(100));
            }
        })?;
    Ok(())
}

fn one_client(
    listener: &mut Listener,
    port: &Arc<Port>,
    function: &Arc<dyn PciFunction>,
    reach: Reach,
) -> io::Result<()> {
    let memory = Memory::new(GuestMemoryMmap::new());
    let (backend, events) = Backend::new(port, function, memory.clone(), reach == Reach::Window)?;
    let mut daemon =
        VhostUserDaemon::new(port.name().into(), Arc::new(backend), memory).map_err(failed)?;
    for (event, number) in events.iter().zip(FIRST_VECTOR..) {
        for handler in daemon.get_epoll_handlers() {
            handler.register_listener(event.as_raw_fd(), EventSet::IN, number.into())?;
        }
    }
    let served = daemon.start(listener).and_then(|()| {
        log::info!("{}: client connected", port.name());
        daemon.wait()
    });
    log::info!("{}: client left", port.name());
    port.reset(function.as_ref(), ResetKind::ClientGone);
    port.interrupt().disable();
    port.memory().unmap_all();
    served.map_err(failed)
}
