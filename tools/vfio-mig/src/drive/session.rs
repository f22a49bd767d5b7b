// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A device and its data files, call by call. Every call may run beside every other: nothing
//! is locked while the kernel works.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{anyhow, bail, Context};
use serde_json::{json, Value};
use vfio_bindings::bindings::vfio as vb;

use super::protocol::{Call, Failure, Found, Source};
use crate::{
    bitmap::DirtyBitmap,
    device::{Backend, Device, Direction},
    discover::Sysfs,
    session::Migratable,
    sys,
};

type Outcome = Result<Found, Failure>;

/// See the module.
pub struct Session {
    name: String,
    backend: Backend,
    device: Mutex<Option<Arc<Device>>>,
    /// By number; `None` where it was closed.
    files: Mutex<Vec<Option<Arc<File>>>>,
    saved: Mutex<HashMap<String, Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer of these members.
fn found<const N: usize>(members: [(&str, Value); N]) -> Found {
    let members = members.into_iter().map(|(k, v)| (k.to_owned(), v));
    members.collect()
}

impl Session {
    /// Of a device that is not open yet.
    pub fn new(name: impl Into<String>, backend: Backend) -> Self {
        Self {
            name: name.into(),
            backend,
            device: Mutex::new(None),
            files: Mutex::new(Vec::new()),
            saved: Mutex::new(HashMap::new()),
        }
    }

    /// Carries out one call.
    ///
    /// # Errors
    ///
    /// What the kernel said, or that the call makes no sense now.
    pub fn run(&self, call: &Call) -> Outcome {
        match call {
            Call::Open => self.open(),
            Call::Close => self.close(),
            Call::Status => Ok(self.status()),
            Call::Flags => {
                let flags = self.device()?.migration();
                let flags = flags.map_err(io::Error::from_raw_os_error)?;
                Ok(found([("flags", flags.0.into())]))
            }
            Call::Get => {
                let state = self.device()?.state()?;
                Ok(found([("state", state.to_string().into())]))
            }
            Call::Set { state } => self.set(state.number()),
            Call::Read {
                bytes,
                piece,
                save,
                file,
            } => self.read(*bytes, *piece, save.as_deref(), *file),
            Call::Write {
                source,
                from,
                bytes,
                piece,
                file,
            } => {
                let data = self.source(source, *from, *bytes)?;
                write(&self.file(*file)?.1, &data, *piece)
            }
            Call::Forget { file } => {
                let (number, file) = self.file(*file)?;
                if let Some(slot) = lock(&self.files).get_mut(number) {
                    *slot = None;
                }
                drop(file);
                Ok(Found::new())
            }
            Call::PrecopyV2 => self.feature(vb::VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2),
            Call::Precopy { file } => {
                let info = sys::precopy_info(&self.file(*file)?.1)?;
                Ok(found([
                    ("initial_bytes", info.initial_bytes.into()),
                    ("dirty_bytes", info.dirty_bytes.into()),
                    ("flags", info.flags.into()),
                ]))
            }
            Call::Size => Ok(found([("bytes", self.device()?.data_size()?.into())])),
            Call::LogStart { page_size, ranges } => {
                let ranges: Vec<(u64, u64)> = ranges.iter().map(|r| (r.iova, r.length)).collect();
                let granule = sys::log_start(self.device()?.fd(), *page_size, &ranges)?;
                Ok(found([("page_size", granule.into())]))
            }
            Call::Report { range, page_size } => {
                let mut bitmap = DirtyBitmap::new(range.length.div_ceil((*page_size).max(1)));
                sys::log_report(
                    self.device()?.fd(),
                    range.iova,
                    range.length,
                    *page_size,
                    bitmap.words_mut(),
                )?;
                Ok(found([
                    ("dirty", bitmap.count().into()),
                    ("pages", bitmap.pages().into()),
                ]))
            }
            Call::LogStop => self.feature(vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
            Call::Reset => {
                self.device()?.reset()?;
                Ok(Found::new())
            }
            Call::Wait { .. } | Call::Quit => Err(anyhow!("not a call on the device").into()),
        }
    }

    fn device(&self) -> anyhow::Result<Arc<Device>> {
        let device = lock(&self.device).clone();
        device.context("the device is not open")
    }

    fn feature(&self, index: u32) -> Outcome {
        self.device()?.feature(Direction::Set, index, 0)?;
        Ok(Found::new())
    }

    fn open(&self) -> Outcome {
        if lock(&self.device).is_some() {
            return Err(anyhow!("the device is open").into());
        }
        // Looked for each time: a device that was bound again has another node in /dev.
        let node = Sysfs::default().find(&self.name)?;
        let device = Device::open(&node, self.backend)?;
        let backend = json!(device.backend());
        *lock(&self.device) = Some(Arc::new(device));
        Ok(found([("backend", backend)]))
    }

    /// The file is closed when the last job on it has ended.
    fn close(&self) -> Outcome {
        let device = lock(&self.device)
            .take()
            .context("the device is not open")?;
        let last = Arc::strong_count(&device) == 1;
        drop(device);
        Ok(found([("last", last.into())]))
    }

    fn status(&self) -> Found {
        let files = lock(&self.files);
        let open: Vec<usize> = (0..files.len())
            .filter(|&n| files.get(n).is_some_and(Option::is_some))
            .collect();
        let saved: HashMap<String, usize> = lock(&self.saved)
            .iter()
            .map(|(name, bytes)| (name.clone(), bytes.len()))
            .collect();
        found([
            ("device", self.name.clone().into()),
            ("open", lock(&self.device).is_some().into()),
            ("files", open.into()),
            ("saved", json!(saved)),
        ])
    }

    fn set(&self, state: u32) -> Outcome {
        let file = sys::set_state(self.device()?.fd(), state)?;
        let Some(file) = file else {
            return Ok(found([("file", Value::Null)]));
        };
        let mut files = lock(&self.files);
        files.push(Some(Arc::new(file)));
        Ok(found([("file", (files.len() - 1).into())]))
    }

    /// A data file and its number; the latest one without a number.
    fn file(&self, number: Option<usize>) -> anyhow::Result<(usize, Arc<File>)> {
        let files = lock(&self.files);
        let number = number
            .or(files.len().checked_sub(1))
            .context("there was no data file yet")?;
        let file = files.get(number).cloned().flatten();
        Ok((
            number,
            file.with_context(|| format!("there is no data file {number}"))?,
        ))
    }

    fn read(
        &self,
        bytes: Option<usize>,
        piece: usize,
        save: Option<&str>,
        file: Option<usize>,
    ) -> Outcome {
        let (_, file) = self.file(file)?;
        let mut data = Vec::new();
        let ended = read(&file, bytes, piece, &mut data);
        let mut found = found([
            ("bytes", data.len().into()),
            ("crc32c", crc32c::crc32c(&data).into()),
        ]);
        if let Some(name) = save {
            let mut saved = lock(&self.saved);
            saved.entry(name.to_owned()).or_default().extend(data);
        }
        match ended {
            Ok(end) => {
                found.insert("end".into(), end.into());
                Ok(found)
            }
            Err(error) => Err(Failure {
                cause: error.into(),
                found,
            }),
        }
    }

    fn source(
        &self,
        source: &Source,
        from: usize,
        bytes: Option<usize>,
    ) -> anyhow::Result<Vec<u8>> {
        let all = match source {
            Source::Hex(digits) => unhex(digits)?,
            Source::Saved(name) => {
                let saved = lock(&self.saved);
                let image = saved.get(name);
                image
                    .with_context(|| format!("nothing is saved as `{name}`"))?
                    .clone()
            }
        };
        let end = bytes.map_or(all.len(), |n| from.saturating_add(n));
        let part = all.get(from..end);
        part.map(<[u8]>::to_vec)
            .with_context(|| format!("there are only {} bytes", all.len()))
    }
}

/// Reads until `bytes` are there (`false`) or the file ends (`true`).
fn read(
    mut file: &File,
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
        let n = file.read(room)?;
        if n == 0 {
            return Ok(true);
        }
        data.extend(room.iter().take(n));
    }
}

fn write(mut file: &File, data: &[u8], piece: usize) -> Outcome {
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let now = rest.get(..piece.max(1)).unwrap_or(rest);
        match file.write(now) {
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

fn unhex(digits: &str) -> anyhow::Result<Vec<u8>> {
    let digits = digits.as_bytes();
    if digits.len() % 2 != 0 {
        bail!("an odd number of hexadecimal digits");
    }
    let pairs = digits.chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair)?;
        u8::from_str_radix(text, 16).with_context(|| format!("`{text}` is not hexadecimal"))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes() {
        assert_eq!(unhex("00ff7A").unwrap(), [0, 0xff, 0x7a]);
        assert!(unhex("0").is_err());
        assert!(unhex("0g").is_err());
    }

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
