// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A vfio-user client.

use std::{
    fs::File,
    io::{IoSlice, Read},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::OnceLock,
    thread,
};

use arbitrary::{Arbitrary, Unstructured};
use dlr_core::{DataFunction, FnState};
use rustix::{
    event::{eventfd, EventfdFlags},
    net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

use crate::{function::Function, guest::memory_file};

/// Messages of one string, and bytes of one: all of them fit into the socket, whose other end does not read
/// before the last one is sent.
const MESSAGES: usize = 40;
const BYTES: usize = 1024;

#[derive(Debug, Arbitrary)]
enum Message {
    /// No message at all.
    Raw(Vec<u8>),
    /// A header that is right about the length.
    Any(u16, u8, Vec<u8>, [u8; 2]),
    Map {
        flags: u8,
        offset: Number,
        address: Number,
        size: Number,
        files: [u8; 2],
    },
    Unmap {
        flags: u8,
        address: Number,
        size: Number,
    },
    /// A region: read or write, its number, offset, and length.
    Access(bool, u8, u16, u8, u32),
    Irqs {
        flags: u8,
        index: u8,
        start: u8,
        count: u8,
        files: [u8; 2],
    },
}

/// Pages, or anything.
#[derive(Debug, Arbitrary)]
enum Number {
    Pages(u8),
    Any(u64),
}

impl Number {
    fn value(&self) -> u64 {
        match self {
            Self::Pages(n) => 4096 * u64::from(*n),
            Self::Any(n) => *n,
        }
    }
}

/// Files that a client may send along.
struct Files([OwnedFd; 4]);

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC);
        Files([
            memory_file(0x10_0000).into(),
            eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            unsealed.unwrap(),
            File::open("/dev/null").unwrap().into(),
        ])
    })
}

/// None, or some of them.
fn chosen(codes: [u8; 2]) -> Vec<BorrowedFd<'static>> {
    let count = usize::from(codes[0] % 4);
    let all = files().0.iter().cycle().skip(usize::from(codes[1] % 4));
    all.take(count).map(AsFd::as_fd).collect()
}

impl Message {
    /// Command, payload, files; no command: as it is.
    fn parts(&self) -> (Option<(u16, u32)>, Vec<u8>, Vec<BorrowedFd<'static>>) {
        let words =
            |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_ne_bytes()).collect() };
        let longs =
            |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_ne_bytes()).collect() };
        match self {
            Self::Raw(bytes) => (None, bytes.clone(), Vec::new()),
            Self::Any(command, flags, payload, fds) => (
                Some((command % 20, (*flags).into())),
                payload.clone(),
                chosen(*fds),
            ),
            Self::Map {
                flags,
                offset,
                address,
                size,
                files,
            } => {
                let mut payload = words(&[32, (*flags).into()]);
                payload.extend(longs(&[offset.value(), address.value(), size.value()]));
                (Some((2, 0)), payload, chosen(*files))
            }
            Self::Unmap {
                flags,
                address,
                size,
            } => {
                let mut payload = words(&[24, u32::from(*flags % 4)]);
                payload.extend(longs(&[address.value(), size.value()]));
                (Some((3, 0)), payload, Vec::new())
            }
            Self::Access(write, region, offset, count, value) => {
                let mut payload = longs(&[(*offset).into()]);
                payload.extend(words(&[u32::from(*region % 10), (*count).into()]));
                if *write {
                    let data = value.to_ne_bytes().into_iter().cycle();
                    payload.extend(data.take((*count).into()));
                }
                (Some((if *write { 10 } else { 9 }, 0)), payload, Vec::new())
            }
            Self::Irqs {
                flags,
                index,
                start,
                count,
                files,
            } => {
                let numbers = [20, *flags, *index % 6, *start, *count].map(u32::from);
                (Some((8, 0)), words(&numbers), chosen(*files))
            }
        }
    }

    fn send(&self, to: &UnixStream, id: u16) {
        let (command, mut payload, fds) = self.parts();
        payload.truncate(BYTES);
        let mut message = Vec::new();
        if let Some((command, flags)) = command {
            message.extend(id.to_ne_bytes());
            message.extend(command.to_ne_bytes());
            for word in [16 + payload.len() as u32, flags, 0] {
                message.extend(word.to_ne_bytes());
            }
        }
        message.extend(payload);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        if !message.is_empty() {
            let parts = [IoSlice::new(&message)];
            sendmsg(to, &parts, &mut control, SendFlags::empty()).unwrap();
        }
    }
}

/// What a client sends, and files with it.
pub fn message(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let function = Function::new();
    let (client, server) = UnixStream::pair().unwrap();
    for id in 0..MESSAGES {
        match Message::arbitrary(&mut input) {
            Ok(message) if !input.is_empty() => message.send(&client, id as u16),
            _ => break,
        }
    }
    client.shutdown(Shutdown::Write).unwrap();
    let replies = thread::spawn(move || {
        let mut all = Vec::new();
        // A client that is thrown out finds its connection reset.
        let _ = (&client).read_to_end(&mut all);
        all.len()
    });
    dlr_pci::converse(server, &function.port, &*function.net);
    replies.join().unwrap();
    assert_eq!(
        function.net.state(),
        FnState::Running,
        "its client has gone"
    );
    function.has_to_work();
}
