// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::*;
use crate::ConfigSpace;

mod presence_tests;
mod resource_tests;

/// A scripted client.
#[derive(Default)]
struct Script {
    requests: VecDeque<Request>,
    replies: Vec<(u16, Result<Vec<u8>, Errno>)>,
}

impl Transport for Script {
    fn receive(&mut self) -> io::Result<Option<Request>> {
        Ok(self.requests.pop_front())
    }

    fn reply(&mut self, request: &Header, body: Result<&[u8], Errno>) -> io::Result<()> {
        self.replies.push((request.id, body.map(<[u8]>::to_vec)));
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Fake {
    writes: Mutex<Vec<(u8, u64, Vec<u8>)>>,
    resets: Mutex<Vec<ResetKind>>,
    master: Mutex<Vec<bool>>,
}

impl PciFunction for Fake {
    fn bar_read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(bar + offset as u8);
    }

    fn bar_write(&self, bar: u8, offset: u64, data: &[u8]) {
        self.writes.lock().unwrap().push((bar, offset, data.into()));
    }

    fn reset(&self, kind: ResetKind) {
        self.resets.lock().unwrap().push(kind);
    }

    fn bus_master(&self, enabled: bool) {
        self.master.lock().unwrap().push(enabled);
    }
}

pub(super) fn port() -> Arc<Port> {
    Port::new("test", ConfigSpace::management(1, 4), Arc::default(), None)
}

fn request(command: u16, payload: &[u8], fds: Vec<OwnedFd>) -> Request {
    Request {
        header: Header {
            id: 7,
            command,
            size: (16 + payload.len()) as u32,
            ..Default::default()
        },
        payload: payload.to_vec(),
        fds,
    }
}

/// The reply to one request.
fn ask(port: &Port, function: &Fake, request: Request) -> Result<Vec<u8>, Errno> {
    let mut script = Script::default();
    script.requests.push_back(request);
    Session::new(port, function).run(&mut script).unwrap();
    assert_eq!(script.replies.len(), 1);
    assert_eq!(script.replies[0].0, 7);
    script.replies.remove(0).1
}

pub(super) fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    let access = RegionAccess {
        offset,
        region,
        count,
    };
    [access.as_bytes(), data].concat()
}

#[test]
fn version_offers_our_limits() {
    let mut hello = vec![0, 0, 0, 0];
    hello.extend_from_slice(b"{\"capabilities\":{\"max_msg_fds\":16}}\0");
    let reply = ask(
        &port(),
        &Fake::default(),
        request(CMD_VERSION, &hello, vec![]),
    )
    .unwrap();
    assert_eq!(reply[..4], [0; 4]);
    let (nul, json) = reply[4..].split_last().unwrap();
    assert_eq!(*nul, 0);
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["capabilities"]["max_msg_fds"], 16);
    let other = request(CMD_VERSION, &[1, 0, 0, 0], vec![]);
    assert_eq!(ask(&port(), &Fake::default(), other), Err(Errno::INVAL));
}

#[test]
fn errors_carry_an_errno_and_disturb_nothing() {
    let (port, function) = (port(), Fake::default());
    let mut script = Script::default();
    script.requests.extend([
        request(99, &[1, 2, 3], vec![]),
        request(CMD_REGION_WRITE, &access(42, 0, 4, &[0; 4]), vec![]),
        request(CMD_REGION_READ, &access(0, 0x3ffe, 4, &[]), vec![]),
        request(CMD_REGION_READ, &access(0, u64::MAX, 4, &[]), vec![]),
        request(CMD_REGION_WRITE, &access(0, 0, 8, &[0; 4]), vec![]),
        request(CMD_DEVICE_GET_REGION_INFO, &[0; 3], vec![]),
        request(CMD_REGION_READ, &access(0, 4, 2, &[]), vec![]),
    ]);
    Session::new(&port, &function).run(&mut script).unwrap();
    let errors: Vec<_> = script.replies.iter().map(|r| r.1.clone().err()).collect();
    let invalid = Some(Errno::INVAL);
    assert_eq!(
        errors,
        [
            Some(Errno::OPNOTSUPP),
            invalid,
            invalid,
            invalid,
            invalid,
            invalid,
            None
        ]
    );
    assert_eq!(script.replies[6].1.as_ref().unwrap()[16..], [4, 4]);
    assert!(function.writes.lock().unwrap().is_empty());
}

#[test]
fn posted_writes_get_no_reply_good_or_bad() {
    let (port, function) = (port(), Fake::default());
    let mut script = Script::default();
    for region in [0, 42] {
        let mut posted = request(
            CMD_REGION_WRITE,
            &access(region, 8, 4, &[1, 2, 3, 4]),
            vec![],
        );
        posted.header.flags = FLAG_NO_REPLY;
        script.requests.push_back(posted);
    }
    Session::new(&port, &function).run(&mut script).unwrap();
    assert!(script.replies.is_empty());
    assert_eq!(*function.writes.lock().unwrap(), [(0, 8, vec![1, 2, 3, 4])]);
}

#[test]
fn tells_what_it_is() {
    let (port, function) = (port(), Fake::default());
    let info = ask(
        &port,
        &function,
        request(CMD_DEVICE_GET_INFO, &[0; 16], vec![]),
    )
    .unwrap();
    assert_eq!(DeviceInfo::read_from_bytes(&info).unwrap().num_regions, 9);
    for (index, size, flags) in [
        (0, 0x4000, 3),
        (1, 0, 0),
        (2, 0x2000, 3),
        (7, 4096, 3),
        (8, 0, 0),
    ] {
        let mut ask_info = [0; 32];
        ask_info[8] = index;
        let reply = ask(
            &port,
            &function,
            request(CMD_DEVICE_GET_REGION_INFO, &ask_info, vec![]),
        );
        let info = RegionInfo::read_from_bytes(&reply.unwrap()).unwrap();
        assert_eq!((info.size, info.flags), (size, flags), "region {index}");
    }
    let reply = ask(
        &port,
        &function,
        request(
            CMD_DEVICE_GET_IRQ_INFO,
            &[0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            vec![],
        ),
    );
    assert_eq!(IrqInfo::read_from_bytes(&reply.unwrap()).unwrap().count, 4);
}

#[test]
fn resets_reach_the_function() {
    let (port, function) = (port(), Fake::default());
    let config = |offset, data: &[u8]| {
        let payload = access(REGION_CONFIG, offset, data.len() as u32, data);
        ask(
            &port,
            &function,
            request(CMD_REGION_WRITE, &payload, vec![]),
        )
        .unwrap();
    };
    config(4, &[6, 0]);
    // DevCtl of the PCIe capability at 0x40.
    config(0x48, &[0, 0x80]);
    ask(&port, &function, request(CMD_DEVICE_RESET, &[], vec![])).unwrap();
    assert_eq!(
        *function.resets.lock().unwrap(),
        [ResetKind::FunctionLevel, ResetKind::Device]
    );
    assert_eq!(*function.master.lock().unwrap(), [true, false, false]);
    let command = access(REGION_CONFIG, 4, 2, &[]);
    let reply = ask(&port, &function, request(CMD_REGION_READ, &command, vec![])).unwrap();
    assert_eq!(reply[16..], [0, 0]);
}

proptest! {
    /// No message, however odd, does more than fail.
    #[test]
    fn survives_any_message(
        messages in prop::collection::vec(
            (0u16..18, prop::collection::vec(prop_oneof![Just(0u8), Just(2), any::<u8>()], 0..48), any::<bool>()),
            1..20,
        )
    ) {
        let (port, function) = (port(), Fake::default());
        let mut script = Script::default();
        let mut expected = 0;
        for (command, payload, no_reply) in messages {
            let mut message = request(command, &payload, vec![]);
            message.header.flags = if no_reply { FLAG_NO_REPLY } else { 0 };
            expected += usize::from(!no_reply);
            script.requests.push_back(message);
        }
        Session::new(&port, &function).run(&mut script).unwrap();
        prop_assert_eq!(script.replies.len(), expected);
    }
}
