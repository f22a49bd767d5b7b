// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Says where a sequence hangs, and ends the program: a call that never returns would say nothing.

use std::{
    process::exit,
    sync::mpsc::{channel, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

/// Ends the program unless it is told of an episode in time. Dropping it ends it.
pub struct Watchdog(Sender<String>);

impl Watchdog {
    /// Of episodes that may take so long.
    pub fn new(limit: Duration) -> Self {
        let (pat, pats) = channel::<String>();
        thread::spawn(move || {
            let mut last = String::new();
            loop {
                match pats.recv_timeout(limit) {
                    Ok(place) => last = place,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        log::error!("an episode does not end: {last}");
                        exit(1);
                    }
                }
            }
        });
        Self(pat)
    }

    /// An episode begins here.
    pub fn pat(&self, place: String) {
        // The thread ends only with the program, or after this is dropped.
        let _ = self.0.send(place);
    }
}
