// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use super::{tests::*, *};
use crate::vfio_user::UnixTransport;

#[test]
fn headers_may_come_in_pieces() {
    let (mut client, server) = UnixStream::pair().unwrap();
    let writer = thread::spawn(move || {
        let payload = access(0, 0, 2, &[]);
        let header = Header {
            id: 3,
            command: CMD_REGION_READ,
            size: (16 + payload.len()) as u32,
            ..Default::default()
        };
        for byte in [header.as_bytes(), &payload].concat() {
            client.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        let mut reply = [0; 34];
        client.read_exact(&mut reply).unwrap();
        reply
    });
    let port = port();
    Session::new(&port, &Fake::default())
        .run(&mut UnixTransport::new(server))
        .unwrap();
    let reply = writer.join().unwrap();
    let header = Header::read_from_bytes(&reply[..16]).unwrap();
    assert_eq!((header.id, header.flags, header.size), (3, TYPE_REPLY, 34));
}

#[test]
fn a_message_cannot_bring_ever_more_descriptors() {
    use std::io::IoSlice;

    use rustix::net::{sendmsg, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    let (client, server) = UnixStream::pair().unwrap();
    let header = Header {
        command: CMD_DMA_MAP,
        size: 16 + 1024,
        ..Default::default()
    };
    (&client).write_all(header.as_bytes()).unwrap();
    // Each byte of the message with a descriptor of its own.
    let sender = thread::spawn(move || {
        let mut sent = 0;
        for _ in 0..1024 {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [std::os::fd::AsFd::as_fd(&client)];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            let part = [IoSlice::new(&[0])];
            if sendmsg(&client, &part, &mut control, SendFlags::NOSIGNAL).is_err() {
                break;
            }
            sent += 1;
        }
        sent
    });
    let port = port();
    let mut transport = UnixTransport::new(server);
    let ended = Session::new(&port, &Fake::default()).run(&mut transport);
    drop(transport);
    sender.join().unwrap();
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("more file descriptors"), "{error}");
}

#[test]
fn nonsense_sizes_end_the_connection() {
    for size in [0u32, 15, u32::MAX] {
        let (mut client, server) = UnixStream::pair().unwrap();
        let header = Header {
            size,
            ..Default::default()
        };
        client.write_all(header.as_bytes()).unwrap();
        let port = port();
        assert!(Session::new(&port, &Fake::default())
            .run(&mut UnixTransport::new(server))
            .is_err());
    }
}
