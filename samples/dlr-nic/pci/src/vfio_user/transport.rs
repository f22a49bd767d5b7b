// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How messages travel.

use std::{
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::{
    io::Errno,
    net::{recvmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags},
};
use zerocopy::{FromBytes, IntoBytes};

use super::proto::{Header, FLAG_ERROR, MAX_DATA, MAX_FDS, TYPE_REPLY};

/// No message is longer: a region write of the size we advertise.
const MAX_MESSAGE: usize = MAX_DATA as usize + 4096;

/// A message of the client, whole.
#[derive(Debug)]
pub(crate) struct Request {
    /// As it came; `size` is right.
    pub(crate) header: Header,
    /// What follows the header.
    pub(crate) payload: Vec<u8>,
    /// Descriptors that came along.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Carries messages of one connection.
pub(crate) trait Transport {
    /// The next message, `None` when the client is gone. Each message is taken whole before
    /// anybody looks at it, so an error in one never disturbs the next.
    fn receive(&mut self) -> io::Result<Option<Request>>;

    /// Answers `request` with `body`, or with an errno.
    fn reply(&mut self, request: &Header, body: Result<&[u8], Errno>) -> io::Result<()>;
}

/// A unix stream socket.
#[derive(Debug)]
pub(crate) struct UnixTransport(UnixStream);

impl UnixTransport {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Fills `buf`; `false` when the stream ended before its first byte. Descriptors that
    /// arrive meanwhile are added to `fds`.
    fn fill(&mut self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
        let mut done = 0;
        while done < buf.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut buf[done..])];
            let got = match recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(more) = message {
                    fds.extend(more);
                }
            }
            // A message may come in many pieces, each with descriptors: the limit is the message's.
            if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
                return Err(io::Error::other("more file descriptors than we take"));
            }
            if got.bytes == 0 {
                return match done {
                    0 => Ok(false),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            done += got.bytes;
        }
        Ok(true)
    }
}

impl Transport for UnixTransport {
    fn receive(&mut self) -> io::Result<Option<Request>> {
        let mut fds = Vec::new();
        let mut head = [0; size_of::<Header>()];
        if !self.fill(&mut head, &mut fds)? {
            return Ok(None);
        }
        let header = Header::read_from_bytes(&head).unwrap_or_default();
        let len = (header.size as usize)
            .checked_sub(head.len())
            .filter(|len| *len <= MAX_MESSAGE)
            .ok_or_else(|| io::Error::other(format!("message of {} bytes", header.size)))?;
        let mut payload = vec![0; len];
        if !self.fill(&mut payload, &mut fds)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Request {
            header,
            payload,
            fds,
        }))
    }

    fn reply(&mut self, request: &Header, body: Result<&[u8], Errno>) -> io::Result<()> {
        let (flags, error) = match body {
            Ok(_) => (TYPE_REPLY, 0),
            Err(errno) => (TYPE_REPLY | FLAG_ERROR, errno.raw_os_error() as u32),
        };
        let body = body.unwrap_or(&[]);
        let header = Header {
            id: request.id,
            command: request.command,
            size: (size_of::<Header>() + body.len()) as u32,
            flags,
            error,
        };
        let mut message = Vec::with_capacity(size_of::<Header>() + body.len());
        message.extend_from_slice(header.as_bytes());
        message.extend_from_slice(body);
        self.0.write_all(&message)
    }
}
