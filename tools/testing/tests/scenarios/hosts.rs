// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Two host boxes, each with a NIC of its own, on two networks: the guest's, by way of the NICs, and
//! one between the hosts that the migration takes.

use anyhow::{ensure, Context, Result};
use dlr_testing::{
    e2e::{
        attempt::{driver_state, Settings},
        oracle,
        trace::Trace,
        traffic::{Load, Traffic},
        Backend, Demand, Judged, Lab, Vm, Watch,
    },
    Cable,
};
use serde_json::json;
use tempfile::TempDir;

use crate::group::{Bench, Group, Listed};

/// Where the destination listens.
const PORT: u16 = 4444;

/// Both hosts, and the guest in one of them.
pub(crate) struct Hosts {
    labs: [Lab; 2],
    /// The host that the guest is in.
    here: usize,
    /// `None` only while it changes hosts.
    vm: Option<Vm>,
    traffic: Traffic,
    stopped: Vec<(u64, u64)>,
    _sockets: TempDir,
}

fn start(group: &str) -> Result<Hosts> {
    let sockets = tempfile::Builder::new().prefix("dlr-").tempdir_in("/tmp")?;
    let wire = sockets.path().join("wire").display().to_string();
    let lab = |end: u8, nic: &[&str]| {
        let socket = sockets.path().join("cable");
        let name = format!("{group}-{end}");
        Lab::start_with(&name, 1, Backend::Iommufd, nic, |config| {
            config.cable(Cable { socket, end })
        })
    };
    // The peer that the guest talks to is at the first one.
    let first = lab(0, &[&format!("--wire=peer+link:{wire}")])?;
    let nic = [
        &format!("--wire=link:{wire}"),
        "--mac-base=02:d1:72:02:00:00",
    ];
    let second = lab(1, &nic)?;
    let mut labs = [first, second];
    let begun = begin(&mut labs[0]);
    let (vm, traffic) = blame(&labs, begun)?;
    Ok(Hosts {
        labs,
        here: 0,
        vm: Some(vm),
        traffic,
        stopped: Vec::new(),
        _sockets: sockets,
    })
}

/// A guest with traffic, in the first host.
fn begin(first: &mut Lab) -> Result<(Vm, Traffic)> {
    let other = Cable::address(1);
    first
        .host()
        .run(&format!(
            "for i in $(seq 60); do \
             ping -c 1 -W 1 {other} || busybox ping -c 1 -W 1 {other} && exit 0; sleep 0.2; \
             done; exit 1"
        ))
        .context("the network between the boxes")?;
    let mut vm = first.vm(&[0], false)?;
    let traffic = Traffic::start(first, &mut vm, Load::light())?;
    Ok((vm, traffic))
}

/// Whose fault it is: see [`Lab::blame`].
fn blame<T>(labs: &[Lab], result: Result<T>) -> Result<T> {
    labs.iter().fold(result, |result, lab| lab.blame(result))
}

/// All of them.
pub(crate) fn group() -> Listed {
    let group = Group::new("hosts", start);
    let trials = vec![
        group.scenario("a_guest_moves_to_another_host", |h| h.hop(0, 1)),
        group.scenario("and_back_again", |h| h.hop(1, 0)),
        group.end("the_guest_that_changed_hosts_is_unharmed"),
    ];
    (group, trials)
}

impl Hosts {
    /// Moves the guest from one host to the other, wherever it was before.
    fn hop(&mut self, from: usize, to: usize) -> Result<()> {
        if self.here != from {
            self.change_hosts(from)?;
        }
        self.change_hosts(to)
    }

    fn change_hosts(&mut self, to: usize) -> Result<()> {
        let here = self.here;
        let vm = self.vm.as_mut().context("no guest")?;
        let settings = Settings::held();
        let end = u8::try_from(to)?;
        let uri = format!("tcp:{}:{PORT}", Cable::address(end));
        let mut destination = self.labs[to].vm(&[0], true)?;
        destination.receive(&self.labs[to], &uri, &settings)?;
        let watch = Watch::begin(&self.labs[here])?;
        vm.begin(&self.labs[here], &uri, &settings)?;
        vm.until_rounds(3)?;
        self.traffic.let_grow(&self.labs[0])?;
        self.labs[here].let_device_write_to_the_last()?;
        vm.let_go()?;
        let ended = vm.until_end();
        self.traffic.rest(&self.labs[0])?;
        ended?.expect("completed")?;
        let trace = Trace::parse(&vm.trace(self.labs[here].host())?);
        let demand = Demand::Growth(&self.traffic, &self.labs[0]);
        let _: Judged = watch.judge(&self.labs[here], &trace, demand)?;
        destination.until_running("running")?;
        vm.until_saved(&self.labs[here])?.expect(
            "LOG_START REPORT PRE_COPY LOOP PRE_COPY_P2P STOP_COPY REPORT READ STOP SAVED",
        )?;
        destination
            .order(self.labs[to].host())?
            .expect("RESUMING WRITE RUNNING_P2P RUNNING LOADED")?;
        ensure!(driver_state(&self.labs[to], 0)? == "RUNNING");
        let mut old = self.vm.replace(destination).context("no guest")?;
        self.here = to;
        self.stopped
            .extend(old.take_stops(self.labs[here].clock_ms()));
        old.quit(self.labs[here].host())
    }
}

impl Bench for Hosts {
    fn mark(&self) -> Result<()> {
        self.labs.iter().try_for_each(Lab::mark_consoles)
    }

    fn check_guest(&mut self) -> Result<()> {
        let lab = &self.labs[self.here];
        let vm = self.vm.as_mut().context("no guest")?;
        self.stopped.extend(vm.take_stops(lab.clock_ms()));
        vm.expect_running()?;
        vm.guest(lab.host())?;
        self.traffic.check_alive(&self.labs[0], vm)
    }

    fn check_box(&mut self) -> Result<()> {
        self.labs.iter_mut().try_for_each(Lab::check)
    }

    fn failed(&mut self) {
        self.labs.iter_mut().for_each(Lab::keep_results);
    }

    fn blame(&self, result: Result<()>) -> Result<()> {
        blame(&self.labs, result)
    }

    /// What arrived at the wire from the guest is whole: its memory cannot be asked any more.
    fn salvage(mut self) -> Result<()> {
        self.check_box()?;
        let problems = oracle::judge_sinks(&self.labs[0].wire(json!({"cmd": "stats"}))?);
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }

    /// Both oracles are content with all that happened.
    fn close(mut self) -> Result<()> {
        let mut vm = self.vm.take().context("no guest")?;
        let finished = self.traffic.finish(&self.labs[0], &mut vm);
        let accounts = blame(&self.labs, finished)?;
        let verdict = oracle::judge(&accounts, &self.stopped);
        vm.quit(self.labs[self.here].host())?;
        if !verdict.passed() {
            self.labs.iter_mut().for_each(Lab::keep_results);
        }
        self.labs.into_iter().try_for_each(Lab::finish)?;
        ensure!(verdict.passed(), "{}", verdict.problems());
        Ok(())
    }
}
