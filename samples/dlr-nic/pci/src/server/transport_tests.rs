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
