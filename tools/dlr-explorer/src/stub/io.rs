// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::io`, as far as a log ring needs it.

/// `Io` and `IoBase`: their methods are those of the types in [`dma`](super::dma).
pub(crate) trait Io {}
pub(crate) trait IoBase {}

/// `io_project!`: one element of the memory, or one word of an element.
macro_rules! io_project {
    ($memory:expr, [try: $chunk:expr]) => {
        $memory.project_chunk($chunk)?
    };
    ($memory:expr, [try: $chunk:expr][try: $word:expr]) => {
        $memory.project_word($chunk, $word)?
    };
}
pub(crate) use io_project;
