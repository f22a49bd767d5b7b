// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The program as its users start it: sockets, `ready`, control requests.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{json, Value};

struct Nic(Child);

impl Drop for Nic {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, args: &[&str]) -> Nic {
    start_with(dir, args, Stdio::inherit())
}

fn start_with(dir: &Path, args: &[&str], log: Stdio) -> Nic {
    // As a login shell on many systems: few descriptors, and the right to have more.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -Sn 128; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_dlr-nic"))
        .arg("--dir")
        .arg(dir)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    let nic = Nic(child);
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    nic
}

struct Control(BufReader<UnixStream>);

impl Control {
    fn connect(dir: &Path) -> Self {
        Self(BufReader::new(
            UnixStream::connect(dir.join("control.sock")).unwrap(),
        ))
    }

    fn ask(&mut self, request: &Value) -> Value {
        let stream = self.0.get_mut();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

#[test]
fn all_sockets_listen_and_control_answers() {
    let dir = tempfile::tempdir().unwrap();
    let _nic = start(
        dir.path(),
        &[
            "--functions",
            "3",
            "--flow-table",
            "64K",
            "--sabotage",
            "marker-too-early=5",
        ],
    );
    for name in ["mf.sock", "df0.sock", "df1.sock", "df2.sock"] {
        UnixStream::connect(dir.path().join(name)).unwrap();
    }
    let mut control = Control::connect(dir.path());
    let stats = control.ask(&json!({"cmd": "stats"}));
    assert_eq!(stats["ok"], true);
    assert_eq!(stats["functions"].as_array().map(Vec::len), Some(3));
    assert_eq!(stats["functions"][2]["flow"]["blocks"], 16);
    assert!(stats["functions"][0]["net"].is_object());
    assert_eq!(stats["sabotage"], json!({"marker-too-early": 5}));
    assert_eq!(stats["wire"]["ok"], true);

    for request in [
        json!({"cmd": "link", "function": 1, "up": false}),
        json!({"cmd": "address", "function": 1, "mac": "02:d1:72:01:00:77"}),
        json!({"cmd": "sabotage", "kind": "marker-too-early", "n": 0}),
        json!({"cmd": "fault", "opcode": "suspend", "action": {"delay": 5}, "count": 2}),
        json!({"cmd": "fault", "opcode": 0x10, "action": "drop", "count": 0}),
        json!({"cmd": "fault", "function": 2, "opcode": "log-stop", "action": "ignore"}),
        json!({"cmd": "disconnect", "function": null}),
        json!({"cmd": "firmware", "without": ["p2p", "hold"]}),
        json!({"cmd": "register-fault", "register": "reset", "action": "stuck", "count": 0}),
        json!({"cmd": "lose-event", "function": 2, "count": 0}),
        json!({"cmd": "flr-delay", "function": null, "ms": 0}),
        json!({"wire": {"cmd": "stats"}}),
    ] {
        assert_eq!(control.ask(&request)["ok"], true, "{request}");
    }
    let stats = control.ask(&json!({"cmd": "stats"}));
    assert_eq!(stats["sabotage"], json!({}));
    let net = &stats["functions"][1]["net"];
    assert_eq!(net["mac"], "02:d1:72:01:00:77");
    assert_eq!(net["permanent_mac"], "02:d1:72:01:00:77");
    for request in [
        json!({"cmd": "link", "function": 3, "up": false}),
        json!({"cmd": "address", "function": 3, "mac": "02:d1:72:01:00:78"}),
        json!({"cmd": "address", "function": 0, "mac": "02:d1:72:01:00:77"}),
        json!({"cmd": "address", "function": 0, "mac": "ff:ff:ff:ff:ff:ff"}),
        json!({"cmd": "address", "function": 0, "mac": "here"}),
        json!({"cmd": "firmware", "without": ["p2p"], "function": 3}),
        json!({"cmd": "firmware", "without": ["nothing"]}),
        json!({"cmd": "sabotage", "kind": "nothing", "n": 1}),
        json!({"cmd": "fault", "opcode": "nothing", "action": "drop"}),
        json!({"cmd": "fault", "function": 3, "opcode": "log-stop", "action": "drop"}),
        json!({"wire": {"cmd": "nothing"}}),
        json!({"cmd": "nothing"}),
        json!(7),
    ] {
        let answer = control.ask(&request);
        assert_eq!(answer["ok"], false, "{request}");
        assert!(answer["error"].is_string(), "{request}");
    }
}

#[test]
fn the_limit_of_descriptors_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let nic = start(dir.path(), &["--functions", "1"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", nic.0.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "{line:?}");
    assert_ne!(words[3], "128");
}

/// A DMA_MAP of vfio-user without a descriptor.
fn map_without_file(address: u64, size: u64) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(1u16.to_ne_bytes());
    message.extend(2u16.to_ne_bytes());
    for word in [48u32, 0, 0, 32, 3] {
        message.extend(word.to_ne_bytes());
    }
    for word in [0, address, size] {
        message.extend(word.to_ne_bytes());
    }
    message
}

#[test]
fn client_memory_that_is_not_shared_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut nic = start_with(dir.path(), &["--functions", "1"], Stdio::piped());
    let mut log = BufReader::new(nic.0.stderr.take().unwrap());
    let mut client = UnixStream::connect(dir.path().join("df0.sock")).unwrap();
    let mut reply = [0; 16];
    // A ROM, then the memory of a guest, twice.
    for (address, size) in [(0xe_0000, 0x2_0000), (0, 1 << 30), (1 << 32, 1 << 30)] {
        client.write_all(&map_without_file(address, size)).unwrap();
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply[12..], [0; 4], "the client is not to blame");
    }
    drop(client);
    let mut told = Vec::new();
    loop {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        if line.contains("client left") {
            break;
        }
        if line.contains("share=on") {
            told.push(line);
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("df0") && told[0].contains("0x40000000 bytes"),
        "{told:?}"
    );
}

#[test]
fn leftovers_are_replaced_and_a_second_nic_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(start(dir.path(), &["--functions", "1"]));
    let _nic = start(dir.path(), &["--functions", "1"]);
    let second = Command::new(env!("CARGO_BIN_EXE_dlr-nic"))
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(why.contains("mf.sock"), "{why}");
    assert_eq!(
        Control::connect(dir.path()).ask(&json!({"cmd": "stats"}))["ok"],
        true
    );
}

#[test]
fn as_many_functions_as_the_contract_allows() {
    let dir = tempfile::tempdir().unwrap();
    let _nic = start(dir.path(), &["--functions", "64"]);
    UnixStream::connect(dir.path().join("df63.sock")).unwrap();
}

/// Enough of a vfio-user client to reset a function by its configuration space.
struct Client(UnixStream);

impl Client {
    const READ: u16 = 9;
    const WRITE: u16 = 10;
    const CONFIG: u32 = 7;

    fn connect(path: &Path) -> Self {
        Self(UnixStream::connect(path).unwrap())
    }

    /// The reply without headers.
    fn config(&mut self, command: u16, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        message.extend_from_slice(&1u16.to_le_bytes());
        message.extend_from_slice(&command.to_le_bytes());
        message.extend_from_slice(&(32 + data.len() as u32).to_le_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&offset.to_le_bytes());
        message.extend_from_slice(&Self::CONFIG.to_le_bytes());
        message.extend_from_slice(&count.to_le_bytes());
        message.extend_from_slice(data);
        self.0.write_all(&message).unwrap();
        let mut header = [0; 16];
        self.0.read_exact(&mut header).unwrap();
        let size = u32::from_le_bytes(header[4..8].try_into().unwrap()) as usize;
        let mut reply = vec![0; size - 16];
        self.0.read_exact(&mut reply).unwrap();
        reply.split_off(16)
    }

    fn read(&mut self, offset: u64, count: u32) -> Vec<u8> {
        self.config(Self::READ, offset, count, &[])
    }

    /// Sets the FLR bit of DevCtl.
    fn reset(&mut self) {
        let mut at = self.read(0x34, 1)[0];
        while self.read(at.into(), 1) != [0x10] {
            at = self.read(u64::from(at) + 1, 1)[0];
            assert_ne!(at, 0, "no PCIe capability");
        }
        self.config(Self::WRITE, u64::from(at) + 9, 1, &[0x80]);
    }
}

#[test]
fn a_reset_of_a_pf_takes_its_vfs_away() {
    for sriov in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options: &[&str] = if sriov { &["--sriov-like"] } else { &[] };
        let _nic = start(dir.path(), options);
        let mut control = Control::connect(dir.path());
        let mut df = Client::connect(&dir.path().join("df1.sock"));
        let vendor = df.read(0, 2);
        assert_eq!(vendor, [0xf4, 0x1a]);
        let mut mf = Client::connect(&dir.path().join("mf.sock"));
        mf.reset();
        let stats = control.ask(&json!({"cmd": "stats"}));
        assert_eq!(stats["flrs"], 1);
        for k in 0..2 {
            assert_eq!(stats["functions"][k]["gone"], sriov);
        }
        let now = df.read(0, 2);
        assert_eq!(now, if sriov { vec![0xff; 2] } else { vendor.clone() });
        assert_eq!(control.ask(&json!({"cmd": "vf-enable"}))["ok"], true);
        assert_eq!(df.read(0, 2), vendor);
        assert_eq!(
            control.ask(&json!({"cmd": "flr-delay", "function": 7, "ms": 1}))["ok"],
            false
        );
    }
}
