// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What the uAPI says that each call of a sequence does: the model of `check`'s walks, and what it
//! lacks.

use rustix::io::Errno;

use super::{
    call::Call,
    has::Has,
    same::{differ, Mask},
    target::Target,
};
use crate::{
    check::walk::{
        model::{demand, Good, Judged, Model as Walk, Session},
        step::Step,
    },
    state::{path, State},
};

/// The model of a device that was just brought to RUNNING, without files and log.
pub struct Model<'a> {
    walk: Walk,
    /// Bytes of the good stream that were written, for each file.
    taken: Vec<usize>,
    about: About<'a>,
}

/// What is known of the device.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What it can do.
    pub has: Has,
    /// A stream that it has given.
    pub image: &'a [u8],
    /// Bytes of a stream that may differ from one to the next.
    pub mask: &'a Mask,
}

impl<'a> Model<'a> {
    /// Of this device.
    pub fn new(about: About<'a>) -> Self {
        Self {
            walk: Walk::new(about.has.flags),
            taken: Vec::new(),
            about,
        }
    }

    /// Makes a call and judges what came.
    ///
    /// # Errors
    ///
    /// What the device did and should not have.
    pub fn call(&mut self, target: &mut impl Target, call: Call) -> Judged {
        match call {
            Call::Plain(step) => self.plain(target, step)?,
            Call::Wrong(wrong) => {
                let answer = target.wrong(wrong);
                let wanted = wrong.wanted(&self.about.has, self.walk.log_is_on());
                demand(wanted.is(answer), &answer, &format!("{wanted:?}"))?;
            }
            Call::OnFile(file, call) => {
                if let Some((number, file)) = self.file(file) {
                    let answer = target.on_file(number, call);
                    let wanted = call.wanted(file.resuming, file.alive);
                    demand(wanted.is(answer), &answer, &format!("{wanted:?}"))?;
                }
            }
            Call::Lost(number) => self.lost(target, number)?,
            Call::Image(file, bytes) => self.image(target, file, bytes.into())?,
            Call::ReadNow(file, bytes) => self.read_now(target, file, bytes.into())?,
            Call::Poll(file) => self.poll(target, file)?,
            Call::Elsewhere(number) => {
                let answer = target.elsewhere(number);
                let (on, shaken) = (self.walk.log_is_on(), self.walk.log_is_shaken());
                let well = match answer {
                    Ok(stray) => on && stray == 0,
                    Err(Errno::INVAL) => true,
                    Err(Errno::IO) => shaken,
                    Err(_) => false,
                };
                demand(well, &answer, "success without a bit beyond, or EINVAL")?;
            }
            Call::Poke(offset, value) => {
                let answer = target.poke(offset, value);
                demand(answer.is_ok(), &answer, "success")?;
            }
            Call::Reopen => {
                let opened = target.reopen();
                opened.map_err(|e| format!("it cannot be opened: {e:#}"))?;
                self.walk.reopened();
            }
            Call::Round(piece) => self.round(target, usize::from(piece.max(1)))?,
        }
        self.walk.look(target)
    }

    /// The file that a call means.
    fn file(&mut self, file: u8) -> Option<(usize, Session)> {
        let number = self.walk.pick(file)?;
        Some((number, *self.walk.file(number)))
    }

    fn lost(&mut self, target: &mut impl Target, number: u32) -> Judged {
        let from = self.walk.state();
        if from == State::Error {
            return Ok(());
        }
        let answer = target.lost(number);
        demand(answer == Err(Errno::FAULT), &answer, "EFAULT")?;
        // The errno hides whether the device has moved: only GET tells.
        let now = target.get();
        let hops = State::try_from(number).ok();
        let hops = hops.and_then(|to| path(self.about.has.flags, from, to));
        let moved = now.is_ok_and(|now| now as u32 == number) && hops.is_some();
        let before = self.walk.files();
        let opens = hops.is_some_and(|hops| !hops.is_empty()) && opens(from, number);
        let seen = if moved { Ok(opens) } else { Err(Errno::INVAL) };
        self.walk.moved(target, number, seen)?;
        if self.walk.files() > before {
            self.walk.lost_file();
            target.skip_file();
        }
        Ok(())
    }

    fn image(&mut self, target: &mut impl Target, file: u8, bytes: usize) -> Judged {
        let Some((number, session)) = self.file(file) else {
            return Ok(());
        };
        if self.taken.len() <= number {
            self.taken.resize(number + 1, 0);
        }
        let image = self.about.image;
        let taken = self.taken.get(number).copied().unwrap_or_default();
        let rest = image.get(taken..).unwrap_or_default();
        let part = rest.get(..bytes).unwrap_or(rest);
        if part.is_empty() {
            return Ok(());
        }
        let answer = target.write_bytes(number, part);
        if let Some(judged) = session.refusal_of_a_write(&answer) {
            return judged;
        }
        if session.spoilt {
            // The device may refuse bytes that are no stream any more with any errno.
            self.walk.file(number).failed |= answer.is_err();
            return demand(answer != Ok(0), &answer, "some bytes or an error");
        }
        let written = *answer.as_ref().unwrap_or(&0);
        demand(
            (1..=part.len()).contains(&written),
            &answer,
            "bytes of a good stream to be taken",
        )?;
        if let Some(taken) = self.taken.get_mut(number) {
            *taken += written;
        }
        self.walk.file(number).good = match taken + written == image.len() {
            true => Good::Whole,
            false => Good::Part,
        };
        Ok(())
    }

    fn read_now(&mut self, target: &mut impl Target, file: u8, most: usize) -> Judged {
        let Some((number, session)) = self.file(file) else {
            return Ok(());
        };
        let answer = target.read_now(number, most);
        if answer == Err(Errno::AGAIN) {
            return demand(!session.resuming && session.alive, &answer, "an end");
        }
        self.walk.judge_read(number, most, answer)?;
        self.ended(target, number, session.ended)
    }

    fn plain(&mut self, target: &mut impl Target, step: Step) -> Judged {
        let read = match step {
            Step::Read(file, _) => self.file(file),
            _ => None,
        };
        self.walk.step(target, step)?;
        let Some((number, session)) = read else {
            return Ok(());
        };
        self.ended(target, number, session.ended)
    }

    /// If a read has just shown the end of a stream, that stream has to be a good one, also if
    /// the calls before were short reads, or other calls came between the reads.
    fn ended(&mut self, target: &mut impl Target, number: usize, before: bool) -> Judged {
        if before || !self.walk.file(number).ended {
            return Ok(());
        }
        let stream = target.taken(number);
        self.load(target, &stream, 4096)
            .map_err(|seen| format!("showed the end of a stream that is not good: {seen}"))?;
        self.go(target, State::Stop).map(drop)
    }

    /// Loads a stream; ends in RESUMING.
    fn load(&mut self, target: &mut impl Target, stream: &[u8], piece: usize) -> Judged {
        let file = self.go(target, State::Resuming)?;
        let loaded = target.write_all(file, stream, piece);
        loaded.map_err(|e| format!("loading what was saved failed with {e:?}"))?;
        self.walk.file(file).good = Good::Whole;
        self.walk.close(target, file);
        Ok(())
    }

    fn poll(&mut self, target: &mut impl Target, file: u8) -> Judged {
        let Some((number, session)) = self.file(file) else {
            return Ok(());
        };
        let saving = !session.resuming;
        let wait = saving && (!session.alive || self.walk.state() == State::StopCopy);
        let answer = target.poll(number, wait);
        let polled = answer.unwrap_or_default();
        let well = answer.is_ok() && !polled.broken && (polled.readable || !wait);
        demand(well, &answer, if wait { "POLLIN" } else { "an answer" })?;
        // A driver without poll() always says both.
        if saving && !polled.writable {
            let well = polled.hung_up != session.alive;
            demand(well, &answer, "POLLRDHUP just if the session has ended")?;
            if session.alive && polled.readable {
                self.walk.file(number).owed = true;
            }
        }
        Ok(())
    }

    /// Goes to `state` by a SET that the model judges; number of the file that came.
    fn go(&mut self, target: &mut impl Target, state: State) -> Result<usize, String> {
        let step = Step::Set(state as u32);
        self.walk
            .step(target, step)
            .map_err(|seen| format!("SET {state}: {seen}"))?;
        Ok(self.walk.files().saturating_sub(1))
    }

    /// Nothing comes in between, so a device that loads what it saves must give it again.
    fn round(&mut self, target: &mut impl Target, piece: usize) -> Judged {
        if matches!(self.walk.state(), State::Error | State::Resuming) {
            return Ok(());
        }
        let failed = |what: &str, errno| format!("{what} failed with {errno:?}");
        self.go(target, State::Stop)?;
        let file = self.go(target, State::StopCopy)?;
        let before = target.read_all(file).map_err(|e| failed("reading it", e))?;
        self.walk.close(target, file);
        self.load(target, &before, piece)?;
        let after = self.go(target, State::StopCopy)?;
        let stream = target
            .read_all(after)
            .map_err(|e| failed("reading it again", e))?;
        self.walk.close(target, after);
        if let Some(how) = differ(&before, &stream, self.about.mask) {
            return Err(format!(
                "gave another stream after its own was loaded: {how}"
            ));
        }
        self.go(target, State::Running).map(drop)
    }
}

/// Does a SET that is carried out make a file?
fn opens(from: State, to: u32) -> bool {
    let saving = |state| matches!(state, State::PreCopy | State::PreCopyP2p | State::StopCopy);
    State::try_from(to)
        .is_ok_and(|to| to.has_session() && to != from && !(saving(from) && saving(to)))
}
