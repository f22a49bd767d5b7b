// SPDX-License-Identifier: GPL-2.0

//! Tests of the files of save and load sessions, on the fake device (`include/uapi/linux/vfio.h`,
//! `VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE` and `VFIO_MIG_GET_PRECOPY_INFO`).

use super::{
    bed::{
        Bed,
        ALL, //
    },
    board::{
        Device,
        Fate,
        Session,
        BAD,
        CAPACITY,
        TRAILER, //
    },
    user::{
        read,
        read_with,
        write, //
    },
};
use crate::vfio::{
    migration::state::State,
    migration_file::{
        Readiness,
        Save, //
    },
};
use kernel::prelude::*;

/// 21 bytes, which take three buffers, the last one partly.
const STATE: &[u8] = b"a state of some bytes";

fn stream(state: &[u8]) -> Result<KVVec<u8>> {
    let mut stream = KVVec::new();
    stream.extend_from_slice(state, GFP_KERNEL)?;
    stream.push(TRAILER, GFP_KERNEL)?;
    Ok(stream)
}

#[kunit_tests(vfio_fake_files)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_copy_stream_ends_after_its_trailer() -> Result {
        for size in [1, 5, CAPACITY, 100] {
            let bed = Bed::at(ALL, State::StopCopy)?;
            let save = bed.save()?;
            let mut all = KVVec::new();
            loop {
                assert_eq!(save.readiness(), Readiness::Readable);
                let bytes = read(&*save, size)?;
                if bytes.is_empty() {
                    break;
                }
                all.extend_from_slice(&bytes, GFP_KERNEL)?;
            }
            assert_eq!(&*all, &*stream(STATE)?);
            // A read at the end returns 0, also the second time.
            assert!(read(&*save, size)?.is_empty());
            assert_eq!(save.readiness(), Readiness::Readable);
        }
        Ok(())
    }

    #[test]
    fn pre_copy_goes_on_into_stop_copy() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let save = bed.save()?;
        assert_eq!(&*bed.drain()?, STATE);
        // There is no data now.
        assert_eq!(read(&*save, 5).err(), Some(ENOMSG));
        assert_eq!(save.readiness(), Readiness::Idle);
        bed.board.change(b'1')?;
        assert_eq!(save.readiness(), Readiness::Readable);
        assert_eq!(&*bed.drain()?, b"1");
        bed.board.change(b'2')?;
        bed.request(State::StopCopy)?;
        assert_eq!(&*bed.drain()?, &*stream(b"2")?);
        Ok(())
    }

    #[test]
    fn precopy_info_falls_to_zero_and_tells_a_restart_once() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let save = bed.save()?;
        let info = |v2| {
            save.precopy_info(v2)
                .map(|i| (i.initial_bytes, i.dirty_bytes, i.reinit))
        };
        let all = STATE.len() as u64;
        assert_eq!(info(true), Ok((all, 0, false)));
        read(&*save, 5)?;
        assert_eq!(info(true), Ok((all - 5, 0, false)));
        bed.drain()?;
        assert_eq!(info(true), Ok((0, 0, false)));
        bed.board.change(b'1')?;
        assert_eq!(info(true), Ok((0, 1, false)));
        bed.board.reinit()?;
        // For version 1 the new image counts as changes.
        assert_eq!(info(false), Ok((0, all + 1, false)));
        // For version 2 `reinit` is set until the user has the answer.
        for _ in 0..2 {
            assert_eq!(info(true), Ok((all + 1, 0, true)));
        }
        save.precopy_told();
        assert_eq!(info(true), Ok((all + 1, 0, false)));
        Ok(())
    }

    /// Two zeros tell the user that there is nothing to read.
    #[test]
    fn precopy_info_of_an_empty_image_falls_to_zero() -> Result {
        let bed = Bed::new(ALL, b"")?;
        bed.request(State::PreCopy)?;
        let save = bed.save()?;
        let info = || {
            save.precopy_info(true)
                .map(|i| (i.initial_bytes, i.dirty_bytes))
        };
        assert_eq!(info(), Ok((1, 0)));
        assert_eq!(read(&*save, 5).err(), Some(ENOMSG));
        assert_eq!(info(), Ok((0, 0)));
        bed.board.change(b'1')?;
        assert_eq!(info(), Ok((0, 1)));
        Ok(())
    }

    /// A read in flight does not block a nonblocking reader.
    #[test]
    fn a_stalled_read_is_waited_for_or_not() -> Result {
        let bed = Bed::new(ALL, STATE)?;
        bed.board.with(|d| d.stalls = true);
        bed.request(State::StopCopy)?;
        let save = bed.save()?;
        assert_eq!(read(&*save, 5).err(), Some(EAGAIN));
        assert_eq!(save.readiness(), Readiness::Idle);
        assert_eq!(&*read_with(&*save, 5, false)?, &STATE[..5]);
        // A nonblocking reader gets the data that has arrived.
        assert_eq!(&*read(&*save, 5)?, &STATE[5..CAPACITY]);
        assert_eq!(read(&*save, 5).err(), Some(EAGAIN));
        Ok(())
    }

    #[test]
    fn a_device_without_room_is_waited_for_or_not() -> Result {
        let bed = Bed::new(ALL, STATE)?;
        bed.board.with(|d| d.room = 0);
        bed.request(State::StopCopy)?;
        let save = bed.save()?;
        assert_eq!(read(&*save, 5).err(), Some(EAGAIN));
        // No event would wake a poller.
        assert_eq!(save.readiness(), Readiness::Readable);
        assert_eq!(&*read_with(&*save, 5, false)?, &STATE[..5]);
        Ok(())
    }

    /// The source must fail such a stream, because QEMU reports a migration as completed even if
    /// the target refuses the end of the stream.
    #[test]
    fn a_stream_without_its_trailer_never_ends() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        bed.board.with(|d| d.ended = true);
        bed.request(State::StopCopy)?;
        let save = bed.save()?;
        assert_eq!(read(&*save, 100)?.len(), STATE.len());
        for _ in 0..2 {
            assert_eq!(read(&*save, 100).err(), Some(EIO));
        }
        Ok(())
    }

    #[test]
    fn a_read_that_fails_ends_the_stream_after_what_did_arrive() -> Result {
        for (error, told) in [
            (ETIMEDOUT, EIO),
            (EINVAL, EIO),
            (ENOTCONN, ENOTCONN),
            (ENOMEM, ENOMEM),
        ] {
            let bed = Bed::new(ALL, STATE)?;
            // The calls are attach, level, attach, level, attach, begin and read; the second read
            // fails.
            bed.board
                .with(|d| d.fail = Some((7, 1, Fate::Ignored, error)));
            bed.request(State::StopCopy)?;
            let save = bed.save()?;
            assert_eq!(&*read(&*save, 100)?, &STATE[..CAPACITY]);
            for _ in 0..2 {
                assert_eq!(read(&*save, 100).err(), Some(told));
            }
        }
        Ok(())
    }

    /// However a session ends, its file fails afterwards, also when a new session is active.
    #[test]
    fn dead_files_say_so() -> Result {
        let ends: [fn(&Bed) -> Result; 3] = [
            |bed| bed.request(State::Running).map(drop),
            |bed| {
                bed.reset();
                Ok(())
            },
            |bed| {
                bed.request(State::Running)?;
                bed.request(State::PreCopy).map(drop)
            },
        ];
        for end in ends {
            let bed = Bed::at(ALL, State::PreCopy)?;
            let save = bed.save()?;
            read(&*save, 5)?;
            end(&bed)?;
            assert_eq!(read(&*save, 5).err(), Some(ENODEV));
            assert_eq!(read_with(&*save, 5, false).err(), Some(ENODEV));
            assert_eq!(save.precopy_info(true).err(), Some(ENODEV));
            assert_eq!(save.readiness(), Readiness::Dead);
            assert_eq!(save.unread(), 0);

            let bed = Bed::at(ALL, State::Resuming)?;
            let load = bed.load()?;
            write(&*load, STATE)?;
            bed.reset();
            assert_eq!(write(&*load, STATE), Err(ENODEV));
        }
        // The arc has activated the state.
        let bed = Bed::at(ALL, State::Resuming)?;
        let load = bed.load()?;
        write(&*load, &stream(STATE)?)?;
        bed.request(State::Stop)?;
        assert_eq!(write(&*load, STATE), Err(ENODEV));
        Ok(())
    }

    #[test]
    fn a_channel_that_failed_ends_both_files() -> Result {
        let bed = Bed::at(ALL, State::PreCopy)?;
        let save = bed.save()?;
        bed.drain()?;
        bed.machine.poison();
        assert_eq!(read(&*save, 5).err(), Some(EIO));
        assert_eq!(save.readiness(), Readiness::Readable);

        let bed = Bed::at(ALL, State::Resuming)?;
        let load = bed.load()?;
        write(&*load, &stream(STATE)?)?;
        bed.machine.poison();
        assert!(!load.is_committed());
        assert_eq!(bed.request(State::Running), Err(EINVAL));
        assert_eq!(bed.state(), State::Resuming);
        Ok(())
    }

    /// MIG_DATA_SIZE counts the bytes of device and queue together, and is never 0.
    #[test]
    fn data_size_is_what_is_left() -> Result {
        let all = STATE.len() as u64;
        let bed = Bed::new(ALL, STATE)?;
        for state in [
            State::Running,
            State::RunningP2p,
            State::Stop,
            State::PreCopy,
        ] {
            bed.request(state)?;
            assert_eq!(bed.machine.data_size(&()), Ok(all));
        }
        let save = bed.save()?;
        read(&*save, 5)?;
        assert_eq!(bed.machine.data_size(&()), Ok(all - 5));
        bed.request(State::StopCopy)?;
        bed.drain()?;
        assert_eq!(bed.machine.data_size(&()), Ok(1));
        Ok(())
    }

    #[test]
    fn a_stream_may_be_split_anywhere() -> Result {
        let whole = stream(STATE)?;
        for step in 1..=whole.len() {
            let bed = Bed::at(ALL, State::Resuming)?;
            let load = bed.load()?;
            for piece in whole.chunks(step) {
                assert!(!load.is_committed());
                assert_eq!(write(&*load, piece), Ok(piece.len()));
            }
            assert!(load.is_committed());
            assert_eq!(load.bytes(), whole.len() as u64);
            bed.request(State::Running)?;
            assert_eq!(bed.board.with(|d| &*d.state == STATE), true);
        }
        Ok(())
    }

    #[test]
    fn a_truncated_stream_is_refused_by_the_arc() -> Result {
        let whole = stream(STATE)?;
        for end in 0..whole.len() {
            let bed = Bed::at(ALL, State::Resuming)?;
            if end != 0 {
                write(&*bed.load()?, &whole[..end])?;
            }
            assert_eq!(bed.request(State::Running), Err(EINVAL));
            assert_eq!(bed.state(), State::Resuming);
            // The rest can still be written.
            write(&*bed.load()?, &whole[end..])?;
            assert_eq!(bed.request(State::Running), Ok(false));
        }
        Ok(())
    }

    /// An error ends the session, also on the device, and also if it comes after the trailer.
    #[test]
    fn a_bad_stream_is_refused_by_write_for_good() -> Result {
        let mut late = stream(STATE)?;
        late.push(b'x', GFP_KERNEL)?;
        for bad in [&[b'a', BAD, b'b'][..], &late] {
            let bed = Bed::at(ALL, State::Resuming)?;
            let load = bed.load()?;
            assert_eq!(write(&*load, bad), Err(EINVAL));
            assert_eq!(bed.board.with(|d| d.session), Session::None);
            assert_eq!(write(&*load, STATE), Err(ENODEV));
            assert!(!load.is_committed());
            assert_eq!(bed.request(State::Running), Err(EINVAL));
            assert_eq!(bed.state(), State::Resuming);
            bed.reset();
            bed.migrate()?;
        }
        Ok(())
    }

    #[test]
    fn a_write_that_the_device_does_not_answer_is_an_error() -> Result {
        let bed = Bed::at(ALL, State::Resuming)?;
        let load = bed.load()?;
        let fail = |d: &mut Device| {
            d.fail = Some((d.calls.len() + 3, 1, Fate::Ignored, ETIMEDOUT));
        };
        bed.board.with(fail);
        assert_eq!(write(&*load, STATE), Err(EIO));
        assert_eq!(write(&*load, STATE), Err(ENODEV));
        Ok(())
    }
}
