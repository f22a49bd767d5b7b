// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Messages in a byte stream (TCP): cuts it at the lengths that the headers announce.

use std::fmt;

use crate::message::{verify, Fault, Header, HEADER_LEN};

/// Longest message that a [`Framer`] accepts, so that a damaged stream cannot make it
/// collect for ever.
const MAX_LEN: usize = 1 << 20;

/// The stream is damaged: where the next message starts is not known any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramingError {
    /// Offset in the stream of the message that went wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {} of the stream: {}", self.offset, self.fault)
    }
}

impl std::error::Error for FramingError {}

/// Collects stream bytes and hands out verified messages.
#[derive(Debug, Default)]
pub struct Framer {
    pending: Vec<u8>,
    offset: u64,
    broken: Option<FramingError>,
}

impl Framer {
    /// Takes the next bytes of the stream and calls `each` for every message they complete:
    /// its header, or the fault of its body.
    ///
    /// # Errors
    ///
    /// A header is damaged. All later calls return the same error.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Result<Header, Fault>),
    ) -> Result<(), FramingError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.pending.extend_from_slice(bytes);
        let mut done = 0;
        while self.pending.len() - done >= HEADER_LEN {
            let rest = &self.pending[done..];
            let header = match Header::parse(rest) {
                Ok(header) if header.len as usize <= MAX_LEN => header,
                Ok(header) => {
                    return self.fail(
                        done,
                        Fault::Length {
                            header,
                            found: MAX_LEN,
                        },
                    )
                }
                Err(fault) => return self.fail(done, fault),
            };
            let Some(message) = rest.get(..header.len as usize) else {
                break;
            };
            each(verify(message));
            done += header.len as usize;
        }
        self.pending.drain(..done);
        self.offset += done as u64;
        Ok(())
    }

    /// Bytes of an incomplete message.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn fail(&mut self, done: usize, fault: Fault) -> Result<(), FramingError> {
        let error = FramingError {
            offset: self.offset + done as u64,
            fault,
        };
        self.pending.clear();
        self.broken = Some(error.clone());
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::build;

    #[test]
    fn any_split_gives_the_same_messages() {
        let stream: Vec<u8> = (0..5)
            .flat_map(|n| build(3, n, 30 + n as usize * 50).unwrap())
            .collect();
        for chunk in [1, 7, 64, stream.len()] {
            let (mut framer, mut seen) = (Framer::default(), vec![]);
            for part in stream.chunks(chunk) {
                framer.push(part, |m| seen.push(m.unwrap().seq)).unwrap();
            }
            assert_eq!((seen, framer.pending()), (vec![0, 1, 2, 3, 4], 0));
        }
    }

    #[test]
    fn a_bad_body_is_one_message_a_bad_header_is_the_end() {
        let mut stream = [build(1, 0, 100).unwrap(), build(1, 1, 100).unwrap()].concat();
        stream[50] ^= 1;
        stream[100] ^= 1;
        let (mut framer, mut seen) = (Framer::default(), vec![]);
        let error = framer.push(&stream, |m| seen.push(m)).unwrap_err();
        assert!(matches!(seen.as_slice(), [Err(Fault::Body { .. })]));
        assert_eq!(error.offset, 100);
        assert_eq!(framer.push(&[0], |_| panic!("broken")), Err(error));
    }

    #[test]
    fn an_absurd_length_is_refused() {
        let mut head = build(1, 0, 24).unwrap();
        head[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = crc32fast::hash(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        assert!(Framer::default().push(&head, |_| ()).is_err());
    }
}
