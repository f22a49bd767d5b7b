// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Eventfds of a client that lives in the test.

use std::os::fd::OwnedFd;

use rustix::{
    event::{eventfd, EventfdFlags},
    fs::{fcntl_getfl, fcntl_setfl, OFlags},
    io::Errno,
};

/// One, and the descriptor that the NIC gets.
pub(crate) fn event() -> (OwnedFd, OwnedFd) {
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let other = event.try_clone().unwrap();
    (event, other)
}

/// How often it was signalled since it was asked last.
pub(crate) fn count(event: &OwnedFd) -> u64 {
    let flags = fcntl_getfl(event).unwrap();
    fcntl_setfl(event, flags | OFlags::NONBLOCK).unwrap();
    let mut count = [0; 8];
    match rustix::io::read(event, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(e) => panic!("{e}"),
    }
}
