// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Descriptors of the process, which all functions share.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

/// What one client may have of them: memory files, eventfds of its vectors, those of a message on its way,
/// sockets.
const OF_A_CLIENT: u64 = 64 + 65 + 16 + 4;

/// What the process needs besides.
const OF_THE_NIC: u64 = 64;

/// Raises the soft limit to the hard one: a client that takes all that it may have must not leave another
/// one without. Says so if the hard limit is too low for this.
pub(crate) fn raise(functions: u8) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = OF_THE_NIC + (u64::from(functions) + 1) * OF_A_CLIENT;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(e) => {
            log::warn!("RLIMIT_NOFILE cannot be raised: {e}");
            current
        }
    };
    if limit.is_some_and(|limit| limit < needed) {
        log::warn!(
            "this process may have {} descriptors, and {functions} hostile clients could have {needed}: \
             raise the limit (ulimit -Hn)",
            limit.unwrap_or_default()
        );
    }
}
