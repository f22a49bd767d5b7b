// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Files of other processes.

use std::{io, os::fd::OwnedFd};

/// A file that another process has open.
pub(super) fn descriptor_of(process: i32, number: i32) -> io::Result<OwnedFd> {
    use rustix::process::{pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};
    let process = Pid::from_raw(process).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
}
