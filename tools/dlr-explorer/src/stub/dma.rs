// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::dma` for the memory of a log ring: the words that the NIC writes.

use std::{marker::PhantomData, sync::Arc};

use super::error::{Result, EINVAL};
use crate::{
    stops::{stop, Stop},
    world::memory::RingMemory,
};

/// Words of a chunk.
const CHUNK: usize = 16;

/// `Coherent`.
pub(crate) struct Coherent<T: ?Sized> {
    memory: Arc<RingMemory>,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Coherent<T> {
    pub(crate) fn new(memory: Arc<RingMemory>) -> Self {
        Self {
            memory,
            of: PhantomData,
        }
    }

    pub(crate) fn as_view(&self) -> &Self {
        self
    }

    /// The view with which the driver tries to read whole chunks of WRITE entries. The explorer
    /// never fills a ring with them, so an attempt changes nothing, and the NIC does not interfere.
    pub(crate) fn as_sys_mem(&self) -> View<'_> {
        View(&self.memory)
    }

    pub(crate) fn project_chunk(&self, chunk: usize) -> Result<Chunk<'_>> {
        Ok(Chunk(&self.memory, chunk))
    }

    pub(crate) fn project_word(&self, chunk: usize, word: usize) -> Result<Word> {
        stop(Stop::Read);
        View(&self.memory).project_word(chunk, word)
    }
}

/// A chunk of the memory.
pub(crate) struct Chunk<'a>(&'a RingMemory, usize);

impl Chunk<'_> {
    pub(crate) fn copy_read(&self) -> [u64; CHUNK] {
        stop(Stop::Read);
        std::array::from_fn(|i| self.0.word(self.1 * CHUNK + i).unwrap_or_default())
    }
}

/// The memory, without a stop at each read.
pub(crate) struct View<'a>(&'a RingMemory);

impl View<'_> {
    pub(crate) fn project_word(&self, chunk: usize, word: usize) -> Result<Word> {
        let word = self.0.word(chunk * CHUNK + word);
        Ok(Word(word.ok_or(EINVAL)?))
    }
}

/// A word of the memory.
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn read_val(&self) -> u64 {
        self.0
    }
}
