// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The control socket: one JSON object per line in, one per line out.
//!
//! | request | effect |
//! | --- | --- |
//! | `{"cmd":"stats"}` | counters of everything |
//! | `{"cmd":"link","function":0,"up":false}` | link of a data function |
//! | `{"cmd":"address","function":0,"mac":"02:d1:72:01:00:07"}` | assigns an address to a data function, which takes it at its next reset, or at once if no driver uses it |
//! | `{"cmd":"sabotage","kind":"drop-log-entry","n":3}` | break a rule; `n` 0 mends it |
//! | `{"cmd":"fault","opcode":50,"action":{"status":9},"count":1,"after":0}` | the next `count` admin commands with this opcode (number, or name like `"log-sync"`), when `after` more have passed, suffer this action: see `FaultAction`; with `"function":0` those of this function only |
//! | `{"cmd":"register-fault","register":"abort","action":"stuck","count":1}` | the next `count` writes of this register bit (`"reset"` or `"abort"`) suffer this: see `RegisterFault` |
//! | `{"cmd":"lose-event","function":0,"count":1}` | the next `count` events "more to read" are not raised |
//! | `{"cmd":"firmware","without":["p2p"]}` | from now on all functions, or the one called `"function"`, do without these abilities (names as of `--without`) and no others |
//! | `{"cmd":"flr-delay","function":0,"ms":500}` | each function-level reset of this function (`null`: the management function) takes so long |
//! | `{"cmd":"vf-enable"}` | data functions that went with a reset of their PF (`--sriov-like`) are there again |
//! | `{"cmd":"log-entry","function":0,"entry":"garbage"}` | posts an entry into a log: see `TestEntry` |
//! | `{"cmd":"packet","function":0}` | the flow table sees a packet, without DMA |
//! | `{"cmd":"tear-page","function":0}` | updates of the status page do not end |
//! | `{"cmd":"tear-out","gone":true}` | the management function as if torn out, or plugged in again |
//! | `{"cmd":"mend"}` | takes back all faults, `tear-page` and `lose-event` |
//! | `{"cmd":"disconnect","function":0}` | tear a function out (`null`: the management function) |
//! | `{"wire":{…}}` | a request of the wire |
//!
//! Every answer has `"ok"`, and `"error"` where that is false.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use anyhow::{ensure, Context};
use dlr_abi::abi;
use dlr_core::{DataFunction, SabotageKind};
use dlr_mgmt::{Fault, FaultAction, RegisterBit, RegisterFault, TestEntry};
use serde::Deserialize;
use serde_json::{json, Value};

use crate::{cli, nic::Nic};

#[derive(Debug, Deserialize)]
#[serde(tag = "cmd", rename_all = "kebab-case")]
enum Request {
    Stats,
    Link {
        function: usize,
        up: bool,
    },
    Address {
        function: usize,
        mac: String,
    },
    Sabotage {
        kind: String,
        n: u64,
    },
    Fault {
        function: Option<usize>,
        opcode: Opcode,
        action: FaultAction,
        #[serde(default)]
        after: u64,
        #[serde(default = "one")]
        count: u64,
    },
    RegisterFault {
        register: RegisterBit,
        action: RegisterFault,
        #[serde(default = "one")]
        count: u64,
    },
    Firmware {
        without: Vec<String>,
        function: Option<usize>,
    },
    FlrDelay {
        function: Option<usize>,
        ms: u64,
    },
    VfEnable,
    LoseEvent {
        function: usize,
        #[serde(default = "one")]
        count: u64,
    },
    LogEntry {
        function: usize,
        entry: TestEntry,
    },
    Packet {
        function: usize,
    },
    TearPage {
        function: usize,
    },
    TearOut {
        gone: bool,
    },
    Mend,
    Disconnect {
        function: Option<usize>,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Opcode {
    Number(u16),
    Name(String),
}

fn one() -> u64 {
    1
}

/// Makes the socket; replaces one that was left behind.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if UnixStream::connect(path).is_err() {
        // Nobody listens, so nobody misses it.
        let _ = std::fs::remove_file(path);
    }
    UnixListener::bind(path).with_context(|| format!("socket {}", path.display()))
}

/// Serves clients until the process ends.
pub(crate) fn serve(listener: &UnixListener, nic: &Nic) {
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    scope.spawn(move || client(&stream, nic));
                }
                Err(e) => {
                    log::error!("control socket: {e}");
                    std::thread::sleep(std::time::Duration::from_secs(1));
                }
            }
        }
    });
}

fn client(stream: &UnixStream, nic: &Nic) {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        let answer = answer(&line, nic).unwrap_or_else(|e| {
            log::warn!("control: {line}: {e:#}");
            json!({ "ok": false, "error": format!("{e:#}") })
        });
        if writer.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(line: &str, nic: &Nic) -> anyhow::Result<Value> {
    let mut request: Value = serde_json::from_str(line)?;
    if let Some(wire) = request.get_mut("wire") {
        return Ok(nic.wire.control(wire.take()));
    }
    match serde_json::from_value(request)? {
        Request::Stats => return Ok(stats(nic)),
        Request::Link { function, up } => {
            let function = nic.functions.get(function);
            function.context("no such function")?.set_link(up);
        }
        Request::Address { function, mac } => {
            let mac = cli::mac(&mac).map_err(anyhow::Error::msg)?;
            let function = nic.functions.get(function);
            function.context("no such function")?.assign_address(mac)?;
        }
        Request::Sabotage { kind, n } => {
            let kind: SabotageKind = kind.parse().map_err(anyhow::Error::msg)?;
            nic.sabotage.set(kind, n);
        }
        Request::Fault {
            function,
            opcode,
            action,
            after,
            count,
        } => {
            let fault = Fault {
                action,
                after,
                count,
            };
            let opcode = opcode_number(&opcode)?;
            match function {
                Some(k) => {
                    ensure!(k < nic.functions.len(), "there is no function {k}");
                    nic.management.inject_for(k, opcode, fault);
                }
                None => nic.management.inject(opcode, fault),
            }
        }
        Request::RegisterFault {
            register,
            action,
            count,
        } => nic.management.inject_register(register, action, count),
        Request::Firmware { without, function } => {
            let mut caps = 0;
            for name in &without {
                caps |= cli::ability_bit(name).map_err(anyhow::Error::msg)?;
            }
            let functions = match function {
                Some(k) => k..k.saturating_add(1),
                None => 0..nic.functions.len(),
            };
            for k in functions {
                ensure!(
                    nic.management.set_without(k, caps),
                    "there is no function {k}"
                );
            }
        }
        Request::FlrDelay { function, ms } => {
            let port = nic.ports.get(function.map_or(0, |k| k.saturating_add(1)));
            let time = std::time::Duration::from_millis(ms);
            port.context("no such function")?.set_reset_time(time);
        }
        Request::VfEnable => nic.vfs.come_back(),
        Request::LoseEvent { function, count } => ensure!(
            nic.management.lose_events(function, count),
            "there is no function {function}"
        ),
        Request::LogEntry { function, entry } => ensure!(
            nic.management.post_entry(function, entry),
            "function {function} has no active log"
        ),
        Request::Packet { function } => ensure!(
            nic.management.see_packet(function),
            "there is no function {function}"
        ),
        Request::TearPage { function } => nic.management.tear_page(function, true),
        Request::TearOut { gone } => nic.management.tear_out(gone),
        Request::Mend => nic.management.mend(),
        Request::Disconnect { function } => {
            let server = nic.servers.get(function.map_or(0, |k| k.saturating_add(1)));
            server.context("no such function")?.disconnect();
        }
    }
    Ok(json!({ "ok": true }))
}

fn stats(nic: &Nic) -> Value {
    let mut stats = nic.management.stats();
    let parts = stats["functions"].as_array_mut().into_iter().flatten();
    for (part, port) in parts.zip(nic.ports.iter().skip(1)) {
        part["gone"] = port.is_gone().into();
    }
    let parts = stats["functions"].as_array_mut().into_iter().flatten();
    for (part, function) in parts.zip(&nic.functions) {
        let text = function.stats_json();
        part["net"] = serde_json::from_str(&text).unwrap_or(Value::String(text));
    }
    let sabotage: serde_json::Map<_, _> = SabotageKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind.name().to_owned(), nic.sabotage.get(kind)?.into())))
        .collect();
    stats["ok"] = true.into();
    stats["wire"] = nic.wire.stats();
    stats["sabotage"] = sabotage.into();
    stats
}

fn opcode_number(opcode: &Opcode) -> anyhow::Result<u16> {
    let names = [
        ("identify-nic", abi::DLR_CMD_IDENTIFY_NIC),
        ("identify-fn", abi::DLR_CMD_IDENTIFY_FN),
        ("status-page", abi::DLR_CMD_STATUS_PAGE),
        ("attest", abi::DLR_CMD_ATTEST),
        ("suspend", abi::DLR_CMD_SUSPEND),
        ("resume", abi::DLR_CMD_RESUME),
        ("save-begin", abi::DLR_CMD_SAVE_BEGIN),
        ("save-read", abi::DLR_CMD_SAVE_READ),
        ("save-end", abi::DLR_CMD_SAVE_END),
        ("load-begin", abi::DLR_CMD_LOAD_BEGIN),
        ("load-write", abi::DLR_CMD_LOAD_WRITE),
        ("load-commit", abi::DLR_CMD_LOAD_COMMIT),
        ("load-abort", abi::DLR_CMD_LOAD_ABORT),
        ("log-start", abi::DLR_CMD_LOG_START),
        ("log-add", abi::DLR_CMD_LOG_ADD),
        ("log-sync", abi::DLR_CMD_LOG_SYNC),
        ("log-stop", abi::DLR_CMD_LOG_STOP),
    ];
    match opcode {
        Opcode::Number(number) => Ok(*number),
        Opcode::Name(name) => {
            let found = names.iter().find(|(known, _)| known == name);
            found
                .map(|&(_, number)| number as u16)
                .with_context(|| format!("unknown opcode `{name}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_parse() {
        for line in [
            r#"{"cmd":"stats"}"#,
            r#"{"cmd":"link","function":0,"up":false}"#,
            r#"{"cmd":"address","function":0,"mac":"02:00:00:00:00:07"}"#,
            r#"{"cmd":"fault","opcode":"log-sync","action":{"status":9}}"#,
            r#"{"cmd":"fault","opcode":50,"action":"drop","count":2}"#,
            r#"{"cmd":"fault","function":1,"opcode":50,"action":"ignore"}"#,
            r#"{"cmd":"fault","opcode":50,"action":{"delay":100}}"#,
            r#"{"cmd":"fault","opcode":"save-read","action":{"result":9},"after":2}"#,
            r#"{"cmd":"fault","opcode":"suspend","action":"stuck"}"#,
            r#"{"cmd":"fault","opcode":"attest","action":"wrong-nonce"}"#,
            r#"{"cmd":"fault","opcode":"attest","action":{"elsewhere":1}}"#,
            r#"{"cmd":"fault","opcode":"attest","action":{"late":300}}"#,
            r#"{"cmd":"register-fault","register":"reset","action":"stuck"}"#,
            r#"{"cmd":"register-fault","register":"abort","action":{"delay":50},"count":2}"#,
            r#"{"cmd":"lose-event","function":0}"#,
            r#"{"cmd":"flr-delay","function":null,"ms":500}"#,
            r#"{"cmd":"vf-enable"}"#,
            r#"{"cmd":"firmware","without":["p2p","hold"]}"#,
            r#"{"cmd":"firmware","without":[],"function":1}"#,
            r#"{"cmd":"log-entry","function":0,"entry":"garbage"}"#,
            r#"{"cmd":"log-entry","function":0,"entry":{"write":4096}}"#,
            r#"{"cmd":"packet","function":0}"#,
            r#"{"cmd":"tear-page","function":0}"#,
            r#"{"cmd":"tear-out","gone":true}"#,
            r#"{"cmd":"mend"}"#,
            r#"{"cmd":"disconnect","function":null}"#,
            r#"{"cmd":"sabotage","kind":"drop-log-entry","n":3}"#,
        ] {
            serde_json::from_str::<Request>(line).expect(line);
        }
        assert!(serde_json::from_str::<Request>(r#"{"cmd":"x"}"#).is_err());
    }

    #[test]
    fn opcodes_have_names() {
        let name = Opcode::Name("log-sync".into());
        assert_eq!(opcode_number(&name).ok(), Some(0x32));
        assert!(opcode_number(&Opcode::Name("x".into())).is_err());
    }
}
