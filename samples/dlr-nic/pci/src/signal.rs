// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Signals eventfds of a client that may not be trusted.
//!
//! write(2) to an eventfd waits while its counter is at the limit. `O_NONBLOCK` does not help: it belongs
//! to the open file, which the client has as well and may clear it again. The kernel itself never waits
//! when it signals one, as it does when an asynchronous read has ended (io_submit(2),
//! `IOCB_FLAG_RESFD`); so an interrupt is the end of a read of nothing.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use parking_lot::Mutex;
use rustix::{
    event::{poll, PollFd, PollFlags, Timespec},
    fs::{fcntl_getfl, fcntl_setfl, memfd_create, MemfdFlags, OFlags},
};
use vmm_sys_util::aio::{IoContext, IoControlBlock, IoEvent};

/// `IOCB_CMD_PREAD` and `IOCB_FLAG_RESFD` of `linux/aio_abi.h`.
const READ: u16 = 0;
const WITH_EVENT: u32 = 1;

/// The kernel, which signals for us.
struct Kernel {
    context: Mutex<IoContext>,
    /// An empty file, from which nothing is read at once.
    empty: OwnedFd,
}

/// One for the process: contexts are counted for the whole machine (`fs.aio-max-nr`). `None`: this kernel
/// has no asynchronous I/O.
fn kernel() -> Option<&'static Kernel> {
    static KERNEL: OnceLock<Option<Kernel>> = OnceLock::new();
    let make = || -> io::Result<Kernel> {
        Ok(Kernel {
            context: Mutex::new(IoContext::new(1)?),
            empty: memfd_create("empty", MemfdFlags::CLOEXEC)?,
        })
    };
    let made = KERNEL.get_or_init(|| {
        let why =
            |e| log::warn!("io_setup: {e}: a client can hold its function up by its eventfds");
        make().map_err(why).ok()
    });
    made.as_ref()
}

impl Kernel {
    fn signal(&self, event: BorrowedFd<'_>) -> io::Result<()> {
        let mut read = IoControlBlock {
            aio_fildes: self.empty.as_raw_fd() as u32,
            aio_lio_opcode: READ,
            aio_flags: WITH_EVENT,
            aio_resfd: event.as_raw_fd() as u32,
            ..Default::default()
        };
        let context = self.context.lock();
        context.submit(&[&mut read])?;
        // The read has ended. Its result is of no interest, but would take room.
        context.get_events(0, &mut [IoEvent::default(); 2], None)?;
        Ok(())
    }
}

/// A client's eventfd.
#[derive(Debug)]
pub(crate) struct Signal(File);

impl Signal {
    /// `None`: that is something else.
    pub(crate) fn new(event: OwnedFd) -> Option<Self> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", event.as_raw_fd()));
        // Without /proc it is found out when it is signalled.
        if link.is_ok_and(|link| link.as_os_str() != "anon_inode:[eventfd]") {
            return None;
        }
        // For kernels without the other way.
        let flags = fcntl_getfl(&event).ok()?;
        fcntl_setfl(&event, flags | OFlags::NONBLOCK).ok()?;
        Some(Self(event.into()))
    }

    /// Adds one to its counter, unless that is at its limit. Does not wait.
    pub(crate) fn send(&self) -> io::Result<()> {
        match kernel() {
            Some(kernel) => kernel.signal(std::os::fd::AsFd::as_fd(&self.0)),
            None => write(&self.0),
        }
    }
}

/// The way of kernels without asynchronous I/O: waits if the client turns its descriptor into one that
/// waits, and fills it, between two calls here.
fn write(event: &File) -> io::Result<()> {
    let mut ready = [PollFd::new(event, PollFlags::OUT)];
    poll(&mut ready, Some(&Timespec::default()))?;
    if !ready[0].revents().contains(PollFlags::OUT) {
        // The client has not looked yet: it will.
        return Ok(());
    }
    match rustix::io::write(event, &1u64.to_ne_bytes()) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::testing::{count, event};

    /// An eventfd, and what the NIC makes of it.
    fn pair() -> (OwnedFd, Signal) {
        let (event, other) = event();
        (event, Signal::new(other).unwrap())
    }

    #[test]
    fn signals_are_counted() {
        let (event, signal) = pair();
        for _ in 0..1000 {
            signal.send().unwrap();
        }
        assert_eq!(count(&event), 1000);
        write(&signal.0).unwrap();
        assert_eq!(count(&event), 1);
    }

    #[test]
    fn a_full_counter_that_blocks_again_holds_nobody_up() {
        let (event, signal) = pair();
        rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        // The client has the same open file.
        fcntl_setfl(&event, OFlags::RDWR).unwrap();
        let (done, waits) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for _ in 0..100 {
                signal.send().unwrap();
                write(&signal.0).unwrap();
            }
            done.send(()).unwrap();
        });
        let in_time = waits.recv_timeout(std::time::Duration::from_secs(30));
        if in_time.is_err() {
            count(&event);
        }
        thread.join().unwrap();
        assert_eq!(in_time, Ok(()), "the function waited for its client");
    }

    #[test]
    fn only_eventfds_are_taken() {
        let (a, b) = UnixStream::pair().unwrap();
        let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        for fd in [a.into(), b.into(), file] {
            assert!(Signal::new(fd).is_none());
        }
    }
}
