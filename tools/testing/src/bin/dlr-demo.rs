// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `make demo`: one live migration from beginning to end, with what came of it.

use std::{
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use dlr_testing::e2e::{
    migrate, oracle, picture, report, traffic::Load, Backend, Lab, Plan, Traffic,
};

/// A guest with a passed-through NIC moves to another QEMU, under traffic.
#[derive(Parser)]
#[command(name = "dlr-demo")]
struct Args {
    /// How QEMU reaches the devices
    #[arg(long, value_enum, default_value_t = Way::Iommufd)]
    backend: Way,

    /// Rounds of pre-copy before the switchover, at least
    #[arg(long, default_value_t = 6)]
    rounds: u64,

    /// Further arguments of dlr-nic, such as --sabotage=drop-log-entry=3
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    nic_arg: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Iommufd,
    Legacy,
}

/// Prints what is going on, with the time since the start.
struct Steps(Instant);

impl Steps {
    fn say(&self, text: &str) {
        println!("[{:>5.1} s] {text}", self.0.elapsed().as_secs_f64());
    }
}

fn main() -> ExitCode {
    env_logger::init();
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("demo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether it went as it should.
fn run(args: &Args) -> Result<bool> {
    let steps = Steps(Instant::now());
    let backend = match args.backend {
        Way::Iommufd => Backend::Iommufd,
        Way::Legacy => Backend::Legacy,
    };
    steps.say("starting the NIC (dlr-nic) and the host box (Linux in QEMU, no KVM needed)");
    let nic_args: Vec<&str> = args.nic_arg.iter().map(String::as_str).collect();
    let mut lab = Lab::start("demo", 2, backend, &nic_args)?;
    steps.say(&format!(
        "dlr_vfio_pci is loaded and bound to {}",
        lab.functions().join(" and ")
    ));
    let migrated = migrate_once(args, &steps, &mut lab);
    let passed = lab.blame(migrated)?;
    lab.keep_results();
    let results = lab.host().results().to_path_buf();
    let ended = lab.finish();
    println!("picture: {}", results.join("dirty-pages.svg").display());
    println!("results: {}", results.display());
    ended?;
    println!("{}", if passed { "demo passed" } else { "demo FAILED" });
    Ok(passed)
}

/// Whether migration and oracles are as they should be, with a report in the folder of results.
fn migrate_once(args: &Args, steps: &Steps, lab: &mut Lab) -> Result<bool> {
    let mut source = lab.vm(&[0], false)?;
    steps.say("source QEMU runs; its guest boots with data function 0");
    source.guest(lab.host())?;
    steps.say("the guest is up; filling its sockets with datagrams that it does not read");
    let traffic = Traffic::start(lab, &mut source, Load::default())?;
    let state = traffic.backlog_state(lab, &mut source)?;
    steps.say(&format!(
        "{} lie in {} sockets, untouched by any processor; more arrive, UDP and TCP run both ways",
        report::bytes(state.queued_bytes),
        state.sockets
    ));

    let mut destination = lab.vm(&[1], true)?;
    steps.say("destination QEMU waits with data function 1; migrating");
    let plan = Plan {
        rounds: args.rounds,
        hold: Duration::from_secs(5),
        ..Plan::default()
    };
    traffic.trickle(lab)?;
    let running = migrate::start(lab, &mut source, &mut destination, &plan)?;
    let mut seen = 0;
    running.pre_copy(
        &mut source,
        |info| {
            let rounds = info["ram"]["dirty-sync-count"].as_u64().unwrap_or(0);
            if rounds > seen {
                seen = rounds;
                let sent = info["ram"]["transferred"].as_u64().unwrap_or(0);
                let device = info["vfio"]["transferred"].as_u64().unwrap_or(0);
                steps.say(&format!(
                    "  pre-copy, round {rounds}: {} of memory, {} of device state sent",
                    report::bytes(sent),
                    report::bytes(device)
                ));
            }
        },
        || Ok(true),
    )?;
    steps.say("switching over");
    let migration = running.switch_over(&mut source, &mut destination)?;
    steps.say(&format!(
        "migration {}{}",
        migration.status,
        migration
            .error
            .as_deref()
            .map(|e| format!(": {e}"))
            .unwrap_or_default()
    ));

    let results = lab.host().results().to_path_buf();
    let survivor = if migration.completed() {
        &mut destination
    } else {
        &mut source
    };
    let alive = match traffic.check_alive(lab, survivor) {
        // The oracles may still know more.
        Err(e) => {
            steps.say(&format!("{e:#}"));
            false
        }
        Ok(()) => true,
    };
    steps.say("reading every datagram of the backlog");
    let accounts = traffic.finish(lab, survivor)?;
    let verdict = oracle::judge(&accounts, migration.stopped.as_slice());

    let table = report::table(&migration, &verdict);
    println!("\n{table}");
    fs::write(results.join("demo.txt"), &table).context("demo.txt")?;
    fs::write(
        results.join("dirty-pages.svg"),
        picture::dirty_pages(&migration, &verdict),
    )?;
    let all = serde_json::json!({"migration": migration, "verdict": verdict, "accounts": accounts});
    fs::write(
        results.join("demo.json"),
        serde_json::to_string_pretty(&all)?,
    )?;
    source.quit(lab.host())?;
    destination.quit(lab.host())?;
    Ok(migration.completed() && verdict.passed() && alive)
}
