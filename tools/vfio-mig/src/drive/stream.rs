// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Reads and writes of a data file, in pieces.

use std::{fs::File, io};

use super::{
    answer::{found, Outcome},
    reply::Failure,
};
use crate::sys;

/// Reads until `bytes` are there (`false`) or the file ends (`true`).
pub(super) fn read(
    file: &File,
    bytes: Option<usize>,
    piece: usize,
    data: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut buffer = vec![0; piece.clamp(1, 64 << 20)];
    loop {
        let want = bytes.map_or(buffer.len(), |n| (n - data.len()).min(buffer.len()));
        let Some(room) = buffer.get_mut(..want).filter(|room| !room.is_empty()) else {
            return Ok(false);
        };
        let n = sys::read(file, room)?;
        if n == 0 {
            return Ok(true);
        }
        data.extend(room.iter().take(n));
    }
}

pub(super) fn write(file: &File, data: &[u8], piece: usize) -> Outcome {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let now = rest.get(..piece.max(1)).unwrap_or(rest);
        match sys::write(file, now) {
            Ok(n) => done += n,
            Err(error) => {
                return Err(Failure {
                    cause: error.into(),
                    found: found([("bytes", done.into())]),
                })
            }
        }
    }
    Ok(found([("bytes", done.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_go_to_the_count_or_to_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let at = |n| {
            use std::io::Seek;
            (&file).seek(io::SeekFrom::Start(n)).unwrap();
        };
        let mut data = Vec::new();
        at(0);
        assert!(!read(&file, Some(7), 3, &mut data).unwrap());
        assert_eq!(data, b"0123456");
        data.clear();
        at(0);
        assert!(read(&file, None, 4, &mut data).unwrap());
        assert_eq!(data, b"0123456789");
        data.clear();
        assert!(read(&file, Some(1), 4, &mut data).unwrap());
    }
}
