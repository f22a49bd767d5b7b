// SPDX-License-Identifier: GPL-2.0

//! Tests of save sessions: MIG_DATA_SIZE of an engine whose whole state is read when a session
//! begins, and a reader beside another thread that starts reads.

use super::{
    bed::{
        Bed,
        NoFiles,
        ALL, //
    },
    user::{
        read,
        read_with, //
    },
};
use crate::vfio::migration::{
    accounting::Pending,
    engine::{
        Engine,
        WaitLimit, //
    },
    image::{
        Accepted,
        Format,
        Image,
        Snapshot, //
    },
    load::{
        LoadIo,
        LoadStart, //
    },
    machine::Machine,
    save::SaveStart,
    state::{
        Opening,
        RunLevel,
        State, //
    },
};
use core::cell::Cell;
use kernel::prelude::*;

const FORMAT: Format = Format {
    magic: 1,
    version: 1,
    max_bytes: 16,
};
const STATE: &[u8] = b"state";

/// A device that runs at every level. Its state stays the same while it is read.
struct Whole;

impl Engine for Whole {
    type Context<'a> = ();
    type Save = Snapshot<crate::LocalModule>;
    type Load = Image<crate::LocalModule>;

    fn set_level(&self, _cx: &(), _from: RunLevel, _to: RunLevel, _wait: WaitLimit<'_>) -> Result {
        Ok(())
    }

    fn begin_save(&self, _cx: &(), stopped: bool) -> Result<SaveStart<Self::Save>> {
        Snapshot::start(&FORMAT, STATE, stopped)
    }

    fn begin_load(&self, _cx: &()) -> Result<LoadStart<Self::Load>> {
        Ok(Image::start(&FORMAT))
    }

    fn install(&self, _cx: &(), _sink: &Self::Load, io: &LoadIo<Accepted>) -> Result {
        Self::Load::activate(io, |_| Ok(()))
    }

    fn recover(&self) -> Result {
        Ok(())
    }

    fn pending(&self, _cx: &()) -> Result<Pending> {
        Ok(Self::Save::size(STATE.len() as u32))
    }
}

#[kunit_tests(vfio_fake_saves)]
mod tests {
    use super::*;

    /// MIG_DATA_SIZE is the same before a session and at its start, and falls as the user reads.
    #[test]
    fn data_size_of_a_snapshot_falls_as_it_is_read() -> Result {
        let machine = KBox::pin_init(Machine::new(Whole), GFP_KERNEL)?;
        let files = NoFiles {
            failures: Cell::new(0),
        };
        let all = Whole.pending(&())?.total_bytes;
        assert_eq!(machine.data_size(&()), Ok(all));
        let mut locked = machine.state_lock().lock(&*machine);
        assert!(machine
            .open(&(), &mut locked, Opening::StopCopy, &files)
            .is_ok());
        locked.set_state(State::StopCopy);
        drop(locked);
        let save = machine.view().current().save.ok_or(ENOENT)?;
        assert_eq!(machine.data_size(&()), Ok(all));
        assert_eq!(read(&*save, 10)?.len(), 10);
        assert_eq!(machine.data_size(&()), Ok(all - 10));
        assert_eq!(read(&*save, 100)?.len() as u64, all - 10);
        // VMMs take 0 for a device that cannot be migrated.
        assert_eq!(machine.data_size(&()), Ok(1));
        // The session has ended, and the state has not.
        save.end();
        assert_eq!(machine.data_size(&()), Ok(all));
        Ok(())
    }

    /// poll() of another thread has prepared the read and not started it yet.
    #[test]
    fn a_read_that_another_thread_starts_is_waited_for_or_not() -> Result {
        let bed = Bed::new(ALL, STATE)?;
        bed.board.with(|d| d.contended = 3);
        bed.request(State::StopCopy)?;
        let save = bed.save()?;
        assert_eq!(read(&*save, 5).err(), Some(EAGAIN));
        assert_eq!(&*read_with(&*save, 5, false)?, STATE);
        Ok(())
    }
}
