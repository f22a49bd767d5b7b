// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the host and the agent inside the host box say to each other.
//!
//! One byte stream (a virtio-serial port) carries frames both ways:
//!
//! | bytes | meaning                                    |
//! |-------|--------------------------------------------|
//! | 4     | length of the message, little-endian       |
//! | 4     | length of the payload, little-endian       |
//! | ...   | the message, JSON                          |
//! | ...   | the payload: raw bytes of a file or stream |
//!
//! Many requests are under way at a time. Each carries an id that the host
//! chose, and every answer repeats it.

use std::io::{self, Read, Write};

use serde::{de::DeserializeOwned, Deserialize, Serialize};

/// Name of the virtio-serial port that leads to the agent.
pub const PORT_NAME: &str = "dlr.agent";

/// Version of this protocol; both ends are built from one tree, so a mismatch
/// means that a stale binary was used.
pub const PROTOCOL_VERSION: u32 = 2;

/// Largest payload that either end puts into one frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Longest message accepted.
const MAX_MESSAGE: usize = 1024 * 1024;

/// A request, or more input for one that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Starts a program; answered by `Started`, output, and `Exit`.
    Exec {
        /// Id of this request.
        id: u64,
        /// Program and arguments; the program is looked up in `PATH`.
        argv: Vec<String>,
        /// Environment on top of the agent's.
        env: Vec<(String, String)>,
        /// Milliseconds after which the program's process group is killed.
        timeout_ms: Option<u64>,
    },
    /// Payload goes to the standard input of a program.
    Stdin {
        /// Id of the `Exec`.
        id: u64,
    },
    /// Closes the standard input of a program.
    StdinEnd {
        /// Id of the `Exec`.
        id: u64,
    },
    /// Sends a signal to the process group of a program.
    Signal {
        /// Id of the `Exec`.
        id: u64,
        /// Signal number as in signal(7).
        signal: i32,
    },
    /// Reads a whole file; answered by `Data` frames and `Done`.
    Read {
        /// Id of this request.
        id: u64,
        /// Absolute path.
        path: String,
    },
    /// Reads the clock (`CLOCK_REALTIME`); answered by one `Data` frame, the microseconds since 1970 as
    /// decimal digits, and `Done`.
    Clock {
        /// Id of this request.
        id: u64,
    },
    /// Writes the payload to a file; answered by `Done`.
    Write {
        /// Id of this request.
        id: u64,
        /// Absolute path.
        path: String,
        /// Append instead of replacing the contents.
        append: bool,
    },
    /// Connects to a Unix stream socket; answered by `Connected`, after which
    /// `Data` flows both ways until `Closed` or `Close`.
    Connect {
        /// Id of this request and of the tunnel.
        id: u64,
        /// Path of the socket.
        path: String,
    },
    /// Payload goes into a tunnel.
    Data {
        /// Id of the `Connect`.
        id: u64,
    },
    /// Ends a tunnel.
    Close {
        /// Id of the `Connect`.
        id: u64,
    },
    /// Switches the box off.
    PowerOff,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "snake_case")]
pub enum Event {
    /// First message of the agent: the box is up.
    Hello {
        /// [`PROTOCOL_VERSION`] of the agent.
        version: u32,
    },
    /// The program runs.
    Started {
        /// Id of the request.
        id: u64,
        /// Its process id, which is its process group too.
        pid: i32,
    },
    /// Payload is output of the program.
    Stdout {
        /// Id of the request.
        id: u64,
    },
    /// Payload is error output of the program.
    Stderr {
        /// Id of the request.
        id: u64,
    },
    /// The program ended and all its output was sent.
    Exit {
        /// Id of the request.
        id: u64,
        /// Exit status, unless a signal ended it.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// Whether the time limit of the request ended it.
        timed_out: bool,
    },
    /// Payload is part of a file or came out of a tunnel.
    Data {
        /// Id of the request.
        id: u64,
    },
    /// A file was read or written completely.
    Done {
        /// Id of the request.
        id: u64,
    },
    /// A tunnel stands.
    Connected {
        /// Id of the request.
        id: u64,
    },
    /// The other end of a tunnel was closed.
    Closed {
        /// Id of the request.
        id: u64,
    },
    /// The request failed.
    Failed {
        /// Id of the request.
        id: u64,
        /// What went wrong.
        message: String,
    },
}

impl Event {
    /// The request that this event belongs to; `None` for `Hello`.
    pub fn id(&self) -> Option<u64> {
        match self {
            Self::Hello { .. } => None,
            Self::Started { id, .. }
            | Self::Stdout { id }
            | Self::Stderr { id }
            | Self::Exit { id, .. }
            | Self::Data { id }
            | Self::Done { id }
            | Self::Connected { id }
            | Self::Closed { id }
            | Self::Failed { id, .. } => Some(*id),
        }
    }
}

/// Sends one frame.
///
/// # Errors
///
/// Those of the stream, and `InvalidInput` for a payload that does not fit.
pub fn send<M: Serialize>(out: &mut impl Write, message: &M, payload: &[u8]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut frame = Vec::with_capacity(8 + text.len() + payload.len());
    for len in [text.len(), payload.len()] {
        let len = u32::try_from(len).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        frame.extend_from_slice(&len.to_le_bytes());
    }
    frame.extend_from_slice(&text);
    frame.extend_from_slice(payload);
    out.write_all(&frame)?;
    out.flush()
}

/// Receives one frame; `None` at the end of the stream.
///
/// # Errors
///
/// Those of the stream, and `InvalidData` when what arrives is not a frame.
pub fn receive<M: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<(M, Vec<u8>)>> {
    let mut lengths = [0u8; 8];
    match input.read_exact(&mut lengths) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let [a, b, c, d, e, f, g, h] = lengths;
    let message_len = u32::from_le_bytes([a, b, c, d]) as usize;
    let payload_len = u32::from_le_bytes([e, f, g, h]) as usize;
    if message_len > MAX_MESSAGE || payload_len > MAX_PAYLOAD {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a frame: lengths {message_len} and {payload_len}"),
        ));
    }
    let mut text = vec![0; message_len];
    input.read_exact(&mut text)?;
    let mut payload = vec![0; payload_len];
    input.read_exact(&mut payload)?;
    Ok(Some((serde_json::from_slice(&text)?, payload)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_way() {
        let mut wire = Vec::new();
        let sent = Request::Connect {
            id: 7,
            path: "/run/a b".into(),
        };
        send(&mut wire, &sent, b"\0raw\xff").unwrap();
        send(&mut wire, &Request::PowerOff, b"").unwrap();
        let mut input = wire.as_slice();
        let (got, payload) = receive::<Request>(&mut input).unwrap().unwrap();
        assert_eq!(got, sent);
        assert_eq!(payload, b"\0raw\xff");
        assert_eq!(
            receive::<Request>(&mut input).unwrap().unwrap().0,
            Request::PowerOff
        );
        assert!(receive::<Request>(&mut input).unwrap().is_none());
    }

    #[test]
    fn garbage_is_refused_before_memory_is_taken() {
        let wire = [0xffu8; 32];
        assert_eq!(
            receive::<Event>(&mut wire.as_slice()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_cut_frame_is_an_error() {
        let mut wire = Vec::new();
        send(&mut wire, &Event::Done { id: 1 }, b"x").unwrap();
        wire.pop();
        assert!(receive::<Event>(&mut wire.as_slice()).is_err());
    }
}
