// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Data files and their sessions.

use rustix::io::Errno;

use super::judged::{demand, Judged};
use crate::check::walk::subject::Answer;

/// How much of a good stream was written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Good {
    /// Nothing.
    #[default]
    Nothing,
    /// Some of it.
    Part,
    /// All of it.
    Whole,
}

/// A data file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Session {
    pub(crate) resuming: bool,
    /// The user has not closed it.
    pub(super) open: bool,
    /// Its session has not ended.
    pub(crate) alive: bool,
    /// read() has said 0 in STOP_COPY.
    pub(crate) ended: bool,
    /// PRECOPY_INFO or poll() has just said that there is something to read. `dirty_bytes` is an
    /// estimate (uapi:1261): a driver that reads ahead cannot know what comes of a read in flight.
    pub(crate) owed: bool,
    /// Bytes of no meaning were written.
    pub(crate) spoilt: bool,
    /// A write has failed.
    pub(crate) failed: bool,
    /// What was written of a good stream.
    pub(crate) good: Good,
}

impl Session {
    /// Judges the answer to a write that the state of the file forbids; `None` if it does not.
    pub(crate) fn refusal_of_a_write(&self, answer: &Answer<usize>) -> Option<Judged> {
        let (errno, wanted) = match (self.resuming, self.alive) {
            (false, _) => (Errno::BADF, "EBADF (saving)"),
            (true, false) => (Errno::NODEV, "ENODEV (ended session)"),
            (true, true) => return None,
        };
        Some(demand(*answer == Err(errno), answer, wanted))
    }
}
