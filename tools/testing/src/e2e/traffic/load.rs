// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How much traffic there is.

use serde::Serialize;

/// How much of everything.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Interfaces of the guest.
    pub nics: usize,
    /// Datagrams of the backlog that the guest's sockets have room for, for each interface. A migration
    /// that finds the stream at its end fails ([`Watch::judge`](crate::e2e::judged::Watch::judge)).
    pub backlog: u64,
    /// How many of them come before the migration starts.
    pub before: u64,
    /// Length of these.
    pub size: usize,
    /// Datagrams a second that join the backlog during the migration.
    pub trickle: u32,
    /// Messages a second of the other streams.
    pub pps: u32,
}

impl Default for Load {
    /// 27 MB of backlog before the migration, more than as much again while it runs.
    fn default() -> Self {
        Self {
            nics: 1,
            backlog: 7600,
            before: 3300,
            size: 8192,
            trickle: 150,
            pps: 50,
        }
    }
}

impl Load {
    /// As much as a test needs that looks at something else.
    pub fn light() -> Self {
        Self {
            backlog: 24_000,
            before: 200,
            size: 1400,
            trickle: 60,
            pps: 20,
            ..Self::default()
        }
    }

    /// With so many interfaces.
    #[must_use]
    pub fn nics(mut self, nics: usize) -> Self {
        self.nics = nics;
        self
    }
}
