// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The vfio-user protocol, server side (libvfio-user's `docs/vfio-user.rst`, version 0.0, and
//! what QEMU 11.1 does of it).
//!
//! Own code and not the crate `vfio_user`: that server answers errors with errno 0, loses
//! step with the stream after an error, takes one eventfd per message, and reads the
//! unmap-all flag from another bit than QEMU sets.

mod proto;
mod transport;

pub(crate) use proto::*;
pub(crate) use transport::{Request, Transport, UnixTransport};
