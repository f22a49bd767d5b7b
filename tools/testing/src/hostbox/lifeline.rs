// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Processes that do not outlive this one, even if it is killed.

use std::{
    ffi::OsString,
    io,
    process::{Child, Command},
    sync::{mpsc, Mutex, OnceLock, PoisonError},
    thread,
};

/// util-linux, as `unshare` is.
const SETPRIV: &str = "setpriv";

/// A command that [`spawn`] starts: the kernel kills the process when this one has ended.
pub(super) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", "KILL", "--"]).args(words);
    command
}

type Order = (Command, mpsc::SyncSender<io::Result<Child>>);

/// Starts a command of [`command`].
///
/// The signal comes when the *thread* ends that has started the process (prctl(2),
/// PR_SET_PDEATHSIG), and a box may outlive the thread of its test: so one thread that never ends
/// starts them all.
///
/// # Errors
///
/// The thread or the process cannot be started.
pub(super) fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        // If it does not start, its end of the channel is gone, and so each order fails.
        let _ = thread::Builder::new()
            .name("starter".into())
            .spawn(move || {
                for (mut command, answer) in orders {
                    // Who has ordered waits for this.
                    let _ = answer.send(command.spawn());
                }
            });
        Mutex::new(sender)
    });
    let gone = || io::Error::other("no thread to start processes from");
    let (sender, answer) = mpsc::sync_channel(1);
    starter
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, sender))
        .map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Stdio};

    use super::*;

    #[test]
    fn a_process_outlives_the_thread_that_asked_for_it() {
        let asked = thread::spawn(|| spawn(command(&["sleep".into(), "0.5".into()])));
        let mut child = asked.join().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().signal(), None);
    }

    #[test]
    fn a_program_that_is_not_there_fails() {
        let mut command = command(&["/no/such/program".into()]);
        command.stderr(Stdio::null());
        assert!(!spawn(command).unwrap().wait().unwrap().success());
    }
}
