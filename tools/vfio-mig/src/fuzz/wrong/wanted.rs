// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What may come of a call.

use rustix::io::Errno;

use crate::check::walk::subject::Answer;

/// What may come.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fuzz) struct Wanted {
    pub(in crate::fuzz) success: bool,
    pub(in crate::fuzz) errnos: &'static [Errno],
}

impl Wanted {
    pub(super) const SUCCESS: Self = Self {
        success: true,
        errnos: &[],
    };
    pub(super) const INVAL: Self = Self::only(&[Errno::INVAL]);

    pub(super) const fn only(errnos: &'static [Errno]) -> Self {
        Self {
            success: false,
            errnos,
        }
    }

    /// Is it what came?
    pub(in crate::fuzz) fn is(&self, answer: Answer<()>) -> bool {
        match answer {
            Ok(()) => self.success,
            Err(errno) => self.errnos.contains(&errno),
        }
    }
}

/// One errno as a slice that lives for ever.
pub(super) fn only(errno: Errno) -> Wanted {
    match errno {
        Errno::OVERFLOW => Wanted::only(&[Errno::OVERFLOW]),
        _ => Wanted::INVAL,
    }
}
