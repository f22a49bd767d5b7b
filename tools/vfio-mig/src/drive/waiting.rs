// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Reading a data file as an event loop does: poll(2), and reads that do not wait.

use std::{
    fs::File,
    io::{self, Read},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fs::{fcntl_getfl, fcntl_setfl, OFlags},
};

/// How long poll(2) may sleep while a stream is drained.
const PATIENCE: Duration = Duration::from_secs(60);

/// What poll(2) says within `limit`, by name: of `IN`, `RDHUP`, `HUP` and `ERR`.
///
/// # Errors
///
/// Those of poll(2).
pub(super) fn poll(file: &File, limit: Duration) -> io::Result<Vec<&'static str>> {
    let mut polled = [PollFd::new(file, PollFlags::IN | PollFlags::RDHUP)];
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    rustix::event::poll(&mut polled, Some(&limit))?;
    let seen = polled.first().map_or(PollFlags::empty(), PollFd::revents);
    let names = [
        ("IN", PollFlags::IN),
        ("RDHUP", PollFlags::RDHUP),
        ("HUP", PollFlags::HUP),
        ("ERR", PollFlags::ERR),
    ];
    let set = names.into_iter().filter(|(_, flag)| seen.contains(*flag));
    Ok(set.map(|(name, _)| name).collect())
}

/// What draining a file took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Drained {
    /// Bytes that were read.
    pub(super) bytes: u64,
    /// Reads that found nothing just now.
    pub(super) again: u64,
    /// Of those, how many came when poll(2) had just said that there is something: a reader that
    /// meets such answers spins.
    pub(super) spurious: u64,
}

/// Reads `file` to its end in pieces of `piece` bytes, without ever waiting in read(2).
///
/// # Errors
///
/// Those of the calls; `TimedOut` when poll(2) sleeps for a minute.
pub(super) fn drain(mut file: &File, piece: usize) -> io::Result<Drained> {
    let flags = fcntl_getfl(file)?;
    fcntl_setfl(file, flags | OFlags::NONBLOCK)?;
    let mut buffer = vec![0; piece.clamp(1, 64 << 20)];
    let (mut seen, mut polled) = (Drained::default(), false);
    let result = loop {
        match file.read(&mut buffer) {
            Ok(0) => break Ok(seen),
            Ok(n) => {
                seen.bytes += n as u64;
                polled = false;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                seen.again += 1;
                seen.spurious += u64::from(polled);
                polled = true;
                if poll(file, PATIENCE)?.is_empty() {
                    break Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(e) => break Err(e),
        }
    };
    fcntl_setfl(file, flags)?;
    result
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;

    #[test]
    fn an_empty_stream_is_polled_for_and_drained_to_its_end() {
        let (reader, mut writer) = UnixStream::pair().unwrap();
        let reader = File::from(OwnedFd::from(reader));
        assert!(poll(&reader, Duration::from_millis(1)).unwrap().is_empty());
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            writer.write_all(b"0123456789").unwrap();
        });
        let seen = drain(&reader, 4).unwrap();
        thread.join().unwrap();
        assert_eq!(seen.bytes, 10);
        assert!(seen.again > 0, "{seen:?}");
        assert_eq!(seen.spurious, 0);
    }
}
