// SPDX-License-Identifier: Apache-2.0 OR MIT

//! How far a soak came: a file that is written after each boot, so that one that was interrupted goes
//! on there.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::figures::Figures;

/// What it is of, and what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) seed: u64,
    pub(super) migrations: u32,
    pub(super) sabotage: Option<String>,
    /// What was run: other programs are another soak.
    pub(super) build: String,
    /// Boots that are over.
    pub(super) boots: u32,
    pub(super) figures: Figures,
}

impl State {
    /// Is `other` a part of the soak that is asked for? Without a `seed` any is right.
    pub(super) fn goes_on(&self, other: &Self, seed: Option<u64>) -> bool {
        let alike = (other.migrations, &other.sabotage, &other.build);
        alike == (self.migrations, &self.sabotage, &self.build)
            && seed.is_none_or(|seed| seed == other.seed)
    }

    /// What `path` holds; `None` if that is nothing that can be gone on with.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(serde_json::from_str(&text).ok()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("{}", path.display())),
        }
    }

    /// Writes it, as a whole or not at all.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_string(self)?)?;
        fs::rename(&new, path).with_context(|| format!("{}", path.display()))
    }
}

/// A name for the content of files.
///
/// # Errors
///
/// One cannot be read.
pub(super) fn build<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("{}", file.display()))?);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(seed: u64) -> State {
        State {
            seed,
            migrations: 1000,
            sabotage: None,
            build: "a".into(),
            boots: 2,
            figures: Figures::default(),
        }
    }

    #[test]
    fn only_a_part_of_the_same_soak_is_gone_on_with() {
        let asked = state(0);
        assert!(asked.goes_on(&state(7), None));
        assert!(asked.goes_on(&state(7), Some(7)));
        assert!(!asked.goes_on(&state(7), Some(8)));
        let other = |change: &dyn Fn(&mut State)| {
            let mut other = state(7);
            change(&mut other);
            other
        };
        for change in [
            other(&|s| s.build = "b".into()),
            other(&|s| s.migrations = 1001),
            other(&|s| s.sabotage = Some("drop-log-entry=5".into())),
        ] {
            assert!(!asked.goes_on(&change, None), "{change:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("state.json");
        assert_eq!(State::read(&path)?, None);
        state(3).write(&path)?;
        assert_eq!(State::read(&path)?, Some(state(3)));
        fs::write(&path, "{")?;
        assert_eq!(State::read(&path)?, None);
        Ok(())
    }
}
