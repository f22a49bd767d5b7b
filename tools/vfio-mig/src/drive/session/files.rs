// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Data files by number, and images by name.

use std::{fs::File, sync::Arc};

use anyhow::Context;

use super::Session;
use crate::drive::{
    answer::{found, lock, unhex, Outcome},
    protocol::Source,
    reply::Failure,
    stream,
};

impl Session {
    /// A data file and its number; the latest one without a number.
    pub(super) fn file(&self, number: Option<usize>) -> anyhow::Result<(usize, Arc<File>)> {
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

    pub(super) fn read(
        &self,
        bytes: Option<usize>,
        piece: usize,
        save: Option<&str>,
        file: Option<usize>,
    ) -> Outcome {
        let (_, file) = self.file(file)?;
        let mut data = Vec::new();
        let ended = stream::read(&file, bytes, piece, &mut data);
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

    pub(super) fn source(
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
