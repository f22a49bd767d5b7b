// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which operations suffer what.

use serde_json::{json, Value};

use crate::{
    limits::{MARGIN_MS, TIMEOUT_MS},
    operation::Operation::{self, *},
};

/// A fault of the matrix: what happens to the command that an operation needs.
pub(crate) struct Kind {
    /// Head of the column.
    pub(crate) name: &'static str,
    /// What it is, for the legend.
    pub(crate) means: &'static str,
    /// For the NIC.
    pub(crate) action: fn() -> Value,
    /// The command that takes the step back suffers too.
    pub(crate) both_ways: bool,
}

/// The columns.
pub(crate) const KINDS: [Kind; 8] = [
    Kind {
        name: "slow",
        means: "is answered late, but within the deadline",
        action: || json!({"delay": TIMEOUT_MS / 4}),
        both_ways: false,
    },
    Kind {
        name: "too late",
        means: "is answered when the deadline is over",
        // Half way between this deadline and that of the command that takes the step back.
        action: || json!({"delay": (TIMEOUT_MS + MARGIN_MS) * 3 / 2}),
        both_ways: false,
    },
    Kind {
        name: "silence",
        means: "is neither executed nor answered",
        action: || json!("ignore"),
        both_ways: false,
    },
    Kind {
        name: "INTERNAL",
        means: "is refused with the status INTERNAL",
        action: || json!({"status": 9}),
        both_ways: false,
    },
    Kind {
        name: "BUSY",
        means: "is refused with the status BUSY",
        action: || json!({"status": 5}),
        both_ways: false,
    },
    Kind {
        name: "stray",
        means: "is not executed, and its completion belongs to no command",
        action: || json!("stray-id"),
        both_ways: false,
    },
    Kind {
        name: "both ways",
        means: "is refused (INTERNAL), and so is the command that would take the step back",
        action: || json!({"status": 9}),
        both_ways: true,
    },
    Kind {
        name: "dead queue",
        means: "is not answered, nor is any other, and the reset handshake does not end either",
        action: || json!("stuck"),
        both_ways: false,
    },
];

/// An operation and one of the commands that it needs.
pub(crate) struct Row {
    /// What the user does.
    pub(crate) operation: Operation,
    /// The command, as the control socket calls it; `None`: it needs none.
    pub(crate) command: Option<&'static str>,
}

const fn row(operation: Operation, command: &'static str) -> Row {
    Row {
        operation,
        command: Some(command),
    }
}

/// The rows: the 15 arcs first, and the three of functions without P2P.
pub(crate) const ROWS: &[Row] = &[
    row(Arc("RUNNING", "RUNNING_P2P"), "suspend"),
    row(Arc("RUNNING_P2P", "RUNNING"), "resume"),
    row(Arc("RUNNING_P2P", "STOP"), "suspend"),
    row(Arc("STOP", "RUNNING_P2P"), "resume"),
    row(Arc("RUNNING", "PRE_COPY"), "status-page"),
    row(Arc("RUNNING", "PRE_COPY"), "save-begin"),
    row(Arc("PRE_COPY", "RUNNING"), "save-end"),
    row(Arc("RUNNING_P2P", "PRE_COPY_P2P"), "save-begin"),
    row(Arc("PRE_COPY_P2P", "RUNNING_P2P"), "save-end"),
    row(Arc("PRE_COPY", "PRE_COPY_P2P"), "suspend"),
    row(Arc("PRE_COPY_P2P", "PRE_COPY"), "resume"),
    row(Arc("PRE_COPY_P2P", "STOP_COPY"), "suspend"),
    row(Arc("STOP", "STOP_COPY"), "save-begin"),
    row(Arc("STOP_COPY", "STOP"), "save-end"),
    row(Arc("STOP", "RESUMING"), "load-begin"),
    Row {
        operation: Arc("RESUMING", "STOP"),
        command: None,
    },
    row(Arc("RUNNING", "STOP"), "suspend"),
    row(Arc("STOP", "RUNNING"), "resume"),
    row(Arc("PRE_COPY", "STOP_COPY"), "suspend"),
    row(Read("PRE_COPY"), "save-read"),
    row(Read("STOP_COPY"), "save-read"),
    row(Write, "load-write"),
    row(Write, "load-commit"),
    row(LogStart, "log-start"),
    row(Report, "log-sync"),
    row(ReportOutside, "log-add"),
    row(LogStop, "log-stop"),
];

/// The command that takes this one back, where there is one.
pub(crate) fn way_back(operation: Operation, command: &str) -> Option<&'static str> {
    match (operation, command) {
        (Arc(..), "suspend") => Some("resume"),
        (Arc(..), "resume") => Some("suspend"),
        (LogStart, "log-start") => Some("log-stop"),
        (Write, "load-write" | "load-commit") => Some("load-abort"),
        _ => None,
    }
}

/// A fault that only one operation can meet.
pub(crate) struct Special {
    /// What the user does.
    pub(crate) operation: Operation,
    /// What is wrong, for people.
    pub(crate) what: &'static str,
    /// Requests to the NIC, when all is prepared.
    pub(crate) requests: fn() -> Vec<Value>,
    /// They come before the preparation.
    pub(crate) before: bool,
}

fn command(opcode: &str, action: &Value) -> Vec<Value> {
    vec![json!({"cmd": "fault", "opcode": opcode, "action": action})]
}

fn nth_read(after: u64, action: &Value) -> Vec<Value> {
    vec![json!({"cmd": "fault", "opcode": "save-read", "action": action, "after": after})]
}

fn entry(entry: &str) -> Vec<Value> {
    vec![json!({"cmd": "log-entry", "function": 0, "entry": entry})]
}

fn torn() -> Vec<Value> {
    vec![json!({"cmd": "tear-page", "function": 0})]
}

/// One line each.
pub(crate) const SPECIALS: &[Special] = &[
    special(Report, "entry of an unknown type", || entry("garbage")),
    special(Report, "entry outside of the tracked ranges", || {
        entry("outside")
    }),
    special(Report, "marker without a SYNC", || entry("marker")),
    special(Report, "entry counted, but not written", || {
        entry("missing")
    }),
    special(Report, "more entries counted than fit", || entry("flood")),
    special(Report, "entries were lost", || entry("lost")),
    special(Report, "SYNC answered, marker missing", || {
        command("log-sync", &json!({"status": 0}))
    }),
    special(Report, "marker with another cookie", || {
        command("log-sync", &json!("wrong-cookie"))
    }),
    special(Report, "marker there, SYNC not answered", || {
        command("log-sync", &json!("drop"))
    }),
    special(ReportOutside, "ADD refused: no more ranges", || {
        command("log-add", &json!({"status": 6}))
    }),
    special(Read("STOP_COPY"), "third SAVE_READ refused", || {
        nth_read(2, &json!({"status": 9}))
    }),
    Special {
        operation: Read("STOP_COPY"),
        what: "more bytes told than the buffer holds",
        requests: || nth_read(0, &json!({"result": 1 << 24})),
        before: true,
    },
    Special {
        operation: Read("STOP_COPY"),
        what: "no bytes, and no reason",
        requests: || nth_read(0, &json!({"status": 0})),
        before: true,
    },
    special(
        Read("PRE_COPY"),
        "more bytes told than the buffer holds",
        || nth_read(0, &json!({"result": 1 << 24})),
    ),
    Special {
        operation: Read("PRE_COPY"),
        what: "SAVE_BEGIN answered, not executed",
        requests: || command("save-begin", &json!({"status": 0})),
        before: true,
    },
    Special {
        operation: Write,
        what: "LOAD_BEGIN answered, not executed",
        requests: || command("load-begin", &json!({"status": 0})),
        before: true,
    },
    Special {
        operation: Arc("STOP_COPY", "STOP"),
        what: "SAVE_END not answered, behind slow reads",
        requests: || behind_slow_reads("ignore"),
        before: true,
    },
    Special {
        operation: Arc("STOP_COPY", "STOP"),
        what: "queue dead, behind slow reads",
        requests: || behind_slow_reads("stuck"),
        before: true,
    },
    special(ArcWhileReading, "SAVE_READ not answered", || {
        nth_read(0, &json!("ignore"))
    }),
    special(ArcWhileReading, "SAVE_READ answered late", || {
        nth_read(0, &json!({"delay": TIMEOUT_MS / 2}))
    }),
    special(ArcWhileReading, "queue dead", || {
        nth_read(0, &json!("stuck"))
    }),
    special(
        Arc("RUNNING", "PRE_COPY"),
        "status page never consistent",
        torn,
    ),
    special(Precopy, "status page never consistent", torn),
    special(Size, "status page never consistent", torn),
];

/// SAVE_END suffers `action`, and the four reads before it are slow.
fn behind_slow_reads(action: &str) -> Vec<Value> {
    let slow = json!({"cmd": "fault", "opcode": "save-read", "action": {"delay": 300}, "count": 4});
    let mut requests = command("save-end", &json!(action));
    requests.push(slow);
    requests
}

const fn special(
    operation: Operation,
    what: &'static str,
    requests: fn() -> Vec<Value>,
) -> Special {
    Special {
        operation,
        what,
        requests,
        before: false,
    }
}
