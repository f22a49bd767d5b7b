// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Calls during which an allocation of the kernel fails: `/proc/thread-self/fail-nth`, which needs
//! `CONFIG_FAULT_INJECTION` and root. Which kinds of allocations count, `/sys/kernel/debug/failslab`
//! and its neighbours say.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
};

/// What is to fail in calls of this thread.
struct Starving {
    file: File,
    /// Allocations until then; 0 when it has failed.
    left: u32,
}

thread_local! {
    static STARVING: RefCell<Option<Starving>> = const { RefCell::new(None) };
}

/// Runs `f`; the `nth` allocation, from 1, in the calls that `f` makes of a device or its data
/// files fails. Says, too, whether there were as many.
///
/// # Errors
///
/// The kernel cannot do this, or the caller may not.
pub fn while_starving<T>(nth: u32, f: impl FnOnce() -> T) -> io::Result<(T, bool)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/proc/thread-self/fail-nth")?;
    let start = Starving { file, left: nth };
    STARVING.with_borrow_mut(|starving| *starving = Some(start));
    let result = f();
    let end = STARVING.with_borrow_mut(Option::take);
    Ok((result, end.is_some_and(|end| end.left == 0)))
}

/// Makes one call, during which an allocation fails if [`while_starving`] says so. Nothing else of
/// the program can fail for that.
pub(super) fn call<T>(f: impl FnOnce() -> T) -> T {
    STARVING.with_borrow_mut(|starving| {
        let Some(starving) = starving.as_mut().filter(|s| s.left > 0) else {
            return f();
        };
        // If it cannot be written, nothing fails, and `left` stays: the caller sees that.
        let _ = starving
            .file
            .write_at(starving.left.to_string().as_bytes(), 0);
        let result = f();
        let left = read_number(&starving.file);
        let _ = starving.file.write_at(b"0", 0);
        starving.left = left.unwrap_or(starving.left);
        result
    })
}

fn read_number(file: &File) -> Option<u32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_starve_is_called_once() {
        let mut calls = 0;
        call(|| calls += 1);
        assert_eq!(calls, 1);
    }

    #[test]
    fn the_file_says_what_is_left() {
        let file = tempfile::tempfile().unwrap();
        file.write_at(b"17\n", 0).unwrap();
        assert_eq!(read_number(&file), Some(17));
        file.write_at(b"x", 0).unwrap();
        assert_eq!(read_number(&file), None);
    }

    /// Each call takes its allocations from the count; here the file is a plain one, in which
    /// nothing counts down.
    #[test]
    fn what_has_failed_fails_once() {
        let file = tempfile::tempfile().unwrap();
        let copy = file.try_clone().unwrap();
        STARVING.with_borrow_mut(|s| *s = Some(Starving { file, left: 2 }));
        call(|| copy.write_at(b"1", 0).unwrap());
        assert_eq!(read_number(&copy), Some(0));
        let seen = call(|| {
            let seen = read_number(&copy);
            copy.write_at(b"0", 0).unwrap();
            seen
        });
        assert_eq!(seen, Some(1));
        let end = STARVING.with_borrow_mut(Option::take);
        assert_eq!(end.map(|end| end.left), Some(0));
    }
}
