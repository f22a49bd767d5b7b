// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls on the log that have a bitmap.

use std::{os::fd::AsFd, sync::Arc};

use anyhow::anyhow;

use super::{elsewhere::descriptor_of, Session};
use crate::{
    bitmap::DirtyBitmap,
    drive::{
        answer::{found, lock, Outcome},
        reply::Failure,
    },
    sys::{self, held::HeldBitmap},
};

impl Session {
    pub(super) fn report(
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

    pub(super) fn report_pages(&self, pages: &[u64], page_size: u64) -> Outcome {
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
}
