// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The lines that go out from `drive`: one JSON object each. Pure.

use std::{io, time::Duration};

use serde::Serialize;
use serde_json::{Map, Value};

/// One line out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answer {
    /// Of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// Whether the call did what it should.
    pub ok: bool,
    /// Name of the errno of a system call that failed, or of the one that ended a read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// What went wrong when it was no system call on the device, or in more words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How long the call took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// What the call found out.
    #[serde(flatten)]
    pub found: Map<String, Value>,
}

/// Results of one call, by name.
pub type Found = Map<String, Value>;

/// A call that failed, with what it did until then.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: anyhow::Error,
    /// What was done.
    pub found: Found,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self {
            cause: cause.into(),
            found: Found::new(),
        }
    }
}

impl Answer {
    /// Of a call that has ended.
    pub fn new(result: Result<Found, Failure>, took: Duration) -> Self {
        let ms = Some((took.as_secs_f64() * 1e6).round() / 1e3);
        match result {
            Ok(found) => Self {
                ok: true,
                ms,
                found,
                ..Self::default()
            },
            Err(Failure { cause, found }) => Self {
                errno: errno_of(&cause),
                error: Some(format!("{cause:#}")),
                ms,
                found,
                ..Self::default()
            },
        }
    }

    /// Of a line that is no request.
    pub fn refusal(why: &str) -> Self {
        Self {
            error: Some(why.to_owned()),
            ..Self::default()
        }
    }

    /// The same, to the request with this id.
    #[must_use]
    pub fn to(mut self, id: Option<Value>) -> Self {
        self.id = id;
        self
    }
}

fn errno_of(cause: &anyhow::Error) -> Option<String> {
    let io = cause.chain().find_map(|e| e.downcast_ref::<io::Error>())?;
    io.raw_os_error().map(errno_name)
}

/// `EIO` for 5; the number where it has no name.
pub fn errno_name(number: i32) -> String {
    match nix::errno::Errno::from_raw(number) {
        nix::errno::Errno::UnknownErrno => number.to_string(),
        known => format!("{known:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_their_errno() {
        let failed = io::Error::from_raw_os_error(107);
        let mut failure = Failure::from(anyhow::Error::new(failed).context("set"));
        failure.found.insert("bytes".into(), 3.into());
        let answer = Answer::new(Err(failure), Duration::from_micros(1500));
        let line = serde_json::to_value(answer.to(Some(4.into()))).unwrap();
        assert_eq!(line["errno"], "ENOTCONN");
        assert_eq!((&line["ok"], &line["id"]), (&false.into(), &4.into()));
        assert_eq!((&line["bytes"], &line["ms"]), (&3.into(), &1.5.into()));
        assert_eq!(errno_name(100_000), "100000");
    }
}
