// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A device and its data files, call by call. Every call may run beside every other: nothing
//! is locked while the kernel works.

mod elsewhere;
mod files;
mod report;

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{anyhow, Context};
use serde_json::{json, Value};
use vfio_bindings::bindings::vfio as vb;

use self::elsewhere::descriptor_of;
use super::{
    answer::{found, lock, Outcome},
    protocol::Call,
    region,
    reply::Found,
    stream::write,
    waiting,
};
use crate::{
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
            Call::DmaBuf {
                region,
                offset,
                bytes,
            } => {
                drop(sys::dma_buf(self.device()?.fd(), *region, *offset, *bytes)?);
                Ok(Found::new())
            }
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
}
