// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The program as its users start it: sockets, `ready`, control requests.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Write},
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
    let mut child = Command::new(env!("CARGO_BIN_EXE_dlr-nic"))
        .arg("--dir")
        .arg(dir)
        .args(args)
        .stdout(Stdio::piped())
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
        json!({"cmd": "sabotage", "kind": "marker-too-early", "n": 0}),
        json!({"cmd": "fault", "opcode": "suspend", "action": {"delay": 5}, "count": 2}),
        json!({"cmd": "fault", "opcode": 0x10, "action": "drop", "count": 0}),
        json!({"cmd": "disconnect", "function": null}),
        json!({"wire": {"cmd": "stats"}}),
    ] {
        assert_eq!(control.ask(&request)["ok"], true, "{request}");
    }
    assert_eq!(control.ask(&json!({"cmd": "stats"}))["sabotage"], json!({}));
    for request in [
        json!({"cmd": "link", "function": 3, "up": false}),
        json!({"cmd": "sabotage", "kind": "nothing", "n": 1}),
        json!({"cmd": "fault", "opcode": "nothing", "action": "drop"}),
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
