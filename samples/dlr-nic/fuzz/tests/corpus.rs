// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each target over its corpus, and over strings made from that, as long as a test may take.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::{rngs::SmallRng, Rng, SeedableRng};

/// How long made-up strings are tried.
const TIME: Duration = Duration::from_secs(2);
/// Longest of them.
const BYTES: usize = 2048;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One of them, changed a little.
fn changed(corpus: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let any = |random: &mut SmallRng| corpus[random.random_range(0..corpus.len())].clone();
    let mut data = any(random);
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=data.len());
        match random.random_range(0..4) {
            0 => data.truncate(at),
            1 => data.insert(at, random.random()),
            2 => data.extend(any(random)),
            _ => data
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|byte| *byte ^= 1 << (at % 8)),
        }
    }
    data.truncate(BYTES);
    data
}

fn run(target: fn(&[u8]), name: &str) {
    let corpus = corpus(name);
    assert!(corpus.len() > 20, "{name}: {} strings", corpus.len());
    for data in &corpus {
        target(data);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = now.as_nanos() as u64;
    // Shown when the test fails.
    println!("{name}: seed {seed}");
    let (mut random, end) = (SmallRng::seed_from_u64(seed), Instant::now() + TIME);
    let mut count = 0;
    while Instant::now() < end {
        let data = changed(&corpus, &mut random);
        println!("{count}: {data:02x?}");
        target(&data);
        count += 1;
    }
}

#[test]
fn messages_of_clients() {
    run(dlr_nic_fuzz::message, "message");
}

#[test]
fn queues_of_guests() {
    run(dlr_nic_fuzz::queues, "queues");
}

#[test]
fn states_of_sources() {
    run(dlr_nic_fuzz::state, "state");
}
