// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::{super::frame::known_guest, *};

fn start(stream: u32, pps: u32, count: Option<u64>) -> PeerRequest {
    let dst = Ipv4Addr::new(10, 9, 1, 2);
    PeerRequest::Start {
        stream,
        dst,
        port: 5000,
        ports: 2,
        size: 100,
        pps,
        count,
        patience_ms: 50,
    }
}

/// Runs the generators for `ms` and returns the numbers that got through.
fn run(
    generators: &mut Generators,
    at: &mut Instant,
    ms: u64,
    mut answer: impl FnMut() -> Delivery,
) -> Vec<(u64, u16)> {
    let mut seen = vec![];
    let end = *at + Duration::from_millis(ms);
    while *at < end {
        let wait = generators.poll(*at, &known_guest(), &mut |frame| {
            let result = answer();
            if result == Delivery::Accepted {
                let header = dlr_traffic::verify(&frame[42..]).unwrap();
                seen.push((header.seq, u16::from_be_bytes([frame[36], frame[37]])));
            }
            result
        });
        *at += wait
            .unwrap_or(Duration::from_millis(1))
            .max(Duration::from_micros(100));
    }
    seen
}

#[test]
fn rate_and_ports() {
    let (mut generators, mut now) = (Generators::default(), Instant::now());
    generators.control(&start(1, 100, None), now).unwrap();
    let seen = run(&mut generators, &mut now, 1000, || Delivery::Accepted);
    assert!((95..=105).contains(&seen.len()), "{}", seen.len());
    assert_eq!(&seen[..3], &[(0, 5000), (1, 5001), (2, 5000)]);
}

#[test]
fn a_short_shortage_loses_nothing() {
    let (mut generators, mut now) = (Generators::default(), Instant::now());
    generators.control(&start(1, 100, Some(50)), now).unwrap();
    let mut n = 0;
    let seen = run(&mut generators, &mut now, 2000, || {
        n += 1;
        if n % 20 == 0 {
            Delivery::Accepted
        } else {
            Delivery::NoBuffer
        }
    });
    assert_eq!(seen.len(), 50);
    assert_eq!(generators.stats()[0]["lost"], 0);
    assert_eq!(generators.stats()[0]["running"], false);
}

#[test]
fn a_blackout_is_one_loss_and_the_rest_comes() {
    let (mut generators, mut now) = (Generators::default(), Instant::now());
    generators.control(&start(1, 100, None), now).unwrap();
    let before = run(&mut generators, &mut now, 200, || Delivery::Accepted).len() as u64;
    run(&mut generators, &mut now, 500, || Delivery::Dropped);
    let after = run(&mut generators, &mut now, 200, || Delivery::Accepted);
    let stats = &generators.stats()[0];
    let lost = stats["lost"].as_u64().unwrap();
    assert!((35..=55).contains(&lost), "{lost}");
    assert_eq!(stats["losses"].as_array().unwrap().len(), 1);
    assert_eq!(stats["losses"][0]["first"], before);
    assert_eq!(after[0].0, before + lost);
    assert_eq!(
        stats["accepted"].as_u64().unwrap() + lost,
        stats["next"].as_u64().unwrap()
    );
}

#[test]
fn arrivals_are_counted_by_their_time() {
    let (mut generators, mut now) = (Generators::default(), Instant::now());
    let begin = unix_ms();
    generators.control(&start(1, 100, Some(7)), now).unwrap();
    run(&mut generators, &mut now, 500, || Delivery::Accepted);
    let end = unix_ms();
    assert_eq!(generators.arrivals(1, begin, end), Ok(7));
    assert_eq!(generators.arrivals(1, 0, begin.saturating_sub(1)), Ok(0));
    assert_eq!(generators.arrivals(1, end + 1, u64::MAX), Ok(0));
    assert_eq!(generators.arrivals(1, end, begin.saturating_sub(1)), Ok(0));
    assert!(generators.arrivals(2, begin, end).is_err());
}

#[test]
fn bad_requests_are_refused() {
    let (mut generators, now) = (Generators::default(), Instant::now());
    generators.control(&start(1, 1, None), now).unwrap();
    assert!(generators.control(&start(1, 1, None), now).is_err());
    assert!(generators
        .control(&PeerRequest::Stop { stream: Some(2) }, now)
        .is_err());
    generators
        .control(&PeerRequest::Stop { stream: None }, now)
        .unwrap();
    assert!(generators.control(&start(1, 1, None), now).is_ok());
}
