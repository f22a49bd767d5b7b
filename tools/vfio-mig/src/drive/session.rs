// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A device and its data files, call by call. Every call may run beside every other: nothing
//! is locked while the kernel works.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{anyhow, Context};
use serde_json::{json, Value};
use vfio_bindings::bindings::vfio as vb;

use super::{
    answer::{found, lock, unhex, Outcome},
    protocol::{Call, Failure, Found, Source},
    region, waiting,
};
use crate::{
    bitmap::DirtyBitmap,
    device::{Backend, Device, Direction},
    discover::Sysfs,
    session::Migratable,
    sys::{self, held::HeldBitmap},
};

/// See the module.
pub struct Session {
    name: String,
    backend: Backend,
    device: Mutex<Option<Arc<Device>>>,
    /// By number; `None` where it was closed.
    files: Mutex<Vec<Option<Arc<File>>>>,
    saved: Mutex<HashMap<String, Vec<u8>>>,
    /// Bitmaps whose pages wait for `release`.
    held: Mutex<Vec<Arc<HeldBitmap>>>,
    /// What the device may write.
    memory: region::Memory,
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
            held: Mutex::new(Vec::new()),
            memory: region::Memory::default(),
        }
    }

    /// Carries out one call, in which the `nth` allocation of the kernel fails.
    ///
    /// # Errors
    ///
    /// Those of [`Self::run`], or the kernel cannot do this. In all others `starved` says whether
    /// there were as many allocations.
    pub fn run_starving(&self, call: &Call, nth: u32) -> Outcome {
        let (mut outcome, starved) = sys::starve::while_starving(nth, || self.run(call))?;
        let found = match &mut outcome {
            Ok(found) => found,
            Err(failure) => &mut failure.found,
        };
        found.insert("starved".to_owned(), starved.into());
        outcome
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
            Call::Set { state, of } => self.set(state.number(), *of),
            Call::Read {
                bytes,
                piece,
                save,
                file,
            } => self.read(*bytes, *piece, save.as_deref(), *file),
            Call::Poll { timeout_ms, file } => {
                let (_, file) = self.file(*file)?;
                let events = waiting::poll(&file, Duration::from_millis(*timeout_ms))?;
                Ok(found([("events", json!(events))]))
            }
            Call::PollRead { piece, file } => {
                let seen = waiting::drain(&self.file(*file)?.1, *piece)?;
                Ok(found([
                    ("bytes", seen.bytes.into()),
                    ("end", true.into()),
                    ("again", seen.again.into()),
                    ("spurious", seen.spurious.into()),
                ]))
            }
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
            Call::Report {
                range,
                page_size,
                held,
                of,
            } => self.report((range.iova, range.length), *page_size, *held, *of),
            Call::ReportPages { pages, page_size } => self.report_pages(pages, *page_size),
            Call::Release => {
                lock(&self.held).drain(..).try_for_each(|b| b.release())?;
                Ok(Found::new())
            }
            Call::LogStop { of: None } => self.feature(vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
            Call::LogStop {
                of: Some((process, number)),
            } => {
                let flags = vb::VFIO_DEVICE_FEATURE_SET | vb::VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP;
                let other = descriptor_of(*process, *number)?;
                sys::feature(other.as_fd(), flags, 8, [0; 8])?;
                Ok(Found::new())
            }
            Call::Reset => {
                self.device()?.reset()?;
                Ok(Found::new())
            }
            Call::RegionInfo { region } => Ok(region::info(&*self.device()?, *region)),
            Call::RegionRead {
                region,
                offset,
                bytes,
            } => region::read(&*self.device()?, *region, *offset, *bytes),
            Call::RegionWrite {
                region,
                offset,
                hex,
            } => region::write(&*self.device()?, *region, *offset, hex),
            Call::RegionFill {
                region,
                offset,
                bytes,
                seed,
            } => region::fill(&*self.device()?, *region, *offset, *bytes, *seed),
            Call::Map { iova, bytes, seed } => {
                self.memory.map(&*self.device()?, *iova, *bytes, *seed)
            }
            Call::Memory { iova, bytes } => self.memory.read(*iova, *bytes),
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
        let number = device.fd().as_raw_fd();
        *lock(&self.device) = Some(Arc::new(device));
        Ok(found([("backend", backend), ("fd", number.into())]))
    }

    /// The file is closed when the last job on it has ended.
    fn close(&self) -> Outcome {
        let device = lock(&self.device)
            .take()
            .context("the device is not open")?;
        self.memory.clear();
        let last = Arc::strong_count(&device) == 1;
        sys::close(device);
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

    fn report(
        &self,
        range: (u64, u64),
        page_size: u64,
        held: bool,
        of: Option<(i32, i32)>,
    ) -> Outcome {
        let other = of.map(|(process, number)| descriptor_of(process, number));
        let other = other.transpose()?;
        let own = self.device();
        let fd = match &other {
            Some(other) => other.as_fd(),
            None => own.as_ref().map_err(|e| anyhow!("{e:#}"))?.fd(),
        };
        let mut bitmap = DirtyBitmap::new(range.1.div_ceil(page_size.max(1)));
        if held {
            let memory = Arc::new(HeldBitmap::new(bitmap.words().len())?);
            lock(&self.held).push(Arc::clone(&memory));
            sys::log_report_held(fd, range, page_size, &memory)?;
            bitmap.merge(&memory.words()?);
        } else {
            sys::log_report(fd, range.0, range.1, page_size, bitmap.words_mut())?;
        }
        Ok(found([
            ("dirty", bitmap.count().into()),
            ("pages", bitmap.pages().into()),
        ]))
    }

    fn report_pages(&self, pages: &[u64], page_size: u64) -> Outcome {
        let device = self.device()?;
        let mut dirty = 0u64;
        for (n, page) in pages.iter().enumerate() {
            let mut bitmap = DirtyBitmap::new(1);
            let iova = page.saturating_mul(page_size);
            sys::log_report(device.fd(), iova, page_size, page_size, bitmap.words_mut()).map_err(
                |cause| Failure {
                    cause: cause.into(),
                    found: found([("dirty", dirty.into()), ("pages", n.into())]),
                },
            )?;
            dirty += bitmap.count();
        }
        Ok(found([
            ("dirty", dirty.into()),
            ("pages", pages.len().into()),
        ]))
    }

    fn set(&self, state: u32, of: Option<(i32, i32)>) -> Outcome {
        let file = match of {
            Some((process, number)) => {
                sys::set_state(descriptor_of(process, number)?.as_fd(), state)?
            }
            None => sys::set_state(self.device()?.fd(), state)?,
        };
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

/// A file that another process has open.
fn descriptor_of(process: i32, number: i32) -> io::Result<OwnedFd> {
    use rustix::process::{pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};
    let process = Pid::from_raw(process).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    Ok(pidfd_getfd(process, number, PidfdGetfdFlags::empty())?)
}

/// Reads until `bytes` are there (`false`) or the file ends (`true`).
fn read(file: &File, bytes: Option<usize>, piece: usize, data: &mut Vec<u8>) -> io::Result<bool> {
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

fn write(file: &File, data: &[u8], piece: usize) -> Outcome {
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
