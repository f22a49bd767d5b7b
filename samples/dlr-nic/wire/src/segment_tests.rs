// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::sync::Mutex;

use super::*;

/// A guest that answers what it is told to.
struct Guest {
    answer: Mutex<Delivery>,
    got: Mutex<Vec<Vec<u8>>>,
}

impl Guest {
    fn new(answer: Delivery) -> Arc<Self> {
        Arc::new(Self {
            answer: Mutex::new(answer),
            got: Mutex::default(),
        })
    }

    fn got(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

impl WireRx for Guest {
    fn deliver(&self, frame: &[u8]) -> Delivery {
        let answer = *self.answer.lock().unwrap();
        if answer == Delivery::Accepted {
            self.got.lock().unwrap().push(frame.to_vec());
        }
        answer
    }
}

const fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 0, n]
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.resize(60, 0);
    frame
}

fn segment(answers: &[Delivery]) -> (Segment, Vec<Arc<Guest>>) {
    let mut segment = Segment::new(answers.len());
    let guests: Vec<_> = answers.iter().map(|a| Guest::new(*a)).collect();
    for (n, (port, guest)) in segment.ports.iter_mut().zip(&guests).enumerate() {
        port.function = Some(guest.clone());
        segment.switch.learn(mac(n as u8), n, Instant::now());
    }
    (segment, guests)
}

#[test]
fn a_slow_port_delays_no_other() {
    let (mut segment, guests) = segment(&[Delivery::NoBuffer, Delivery::Accepted]);
    let now = Instant::now();
    for _ in 0..2000 {
        segment.send(0, frame(mac(0), mac(9)));
    }
    segment.send(1, frame(mac(1), mac(9)));
    assert_eq!(guests[1].got(), 1, "it waited behind another port's frames");
    // Nor what comes from the back end.
    assert_eq!(segment.offer(&frame(mac(1), mac(9))), Delivery::Accepted);
    assert_eq!(segment.offer(&frame(mac(0), mac(9))), Delivery::NoBuffer);
    assert_eq!(segment.ports[0].waiting(), WAITING);
    // Each frame waits from its own time on.
    assert_eq!(segment.retry(now), Some(RETRY));
    assert_eq!(segment.retry(Instant::now() + PATIENCE), None);
    assert_eq!(segment.lost, 2000);
    assert_eq!(segment.ports[0].stats.no_buffer, 2000);
    assert_eq!(segment.ports[1].stats.no_buffer, 0);
}

#[test]
fn frames_for_all_reach_all_and_wait_where_they_must() {
    let answers = [Delivery::NoBuffer, Delivery::Dropped, Delivery::Accepted];
    let (mut segment, guests) = segment(&answers);
    segment.flood(3, &frame([0xff; 6], mac(9)));
    assert_eq!(segment.offer(&frame([0xff; 6], mac(9))), Delivery::Accepted);
    assert_eq!((guests[2].got(), segment.ports[0].waiting()), (2, 2));
    *guests[0].answer.lock().unwrap() = Delivery::Accepted;
    assert_eq!(segment.retry(Instant::now()), None);
    assert_eq!((guests[0].got(), guests[2].got()), (2, 2));
    assert_eq!(segment.lost, 0);
    // The sender does not get its own frame.
    segment.flood(2, &frame([0xff; 6], mac(9)));
    assert_eq!((guests[0].got(), guests[2].got()), (3, 2));
    // If no port took it, whoever offers it does so again: nothing waits that would come twice.
    for guest in &guests {
        *guest.answer.lock().unwrap() = Delivery::NoBuffer;
    }
    assert_eq!(segment.offer(&frame([0xff; 6], mac(9))), Delivery::NoBuffer);
    assert!(segment.ports.iter().all(|port| port.waiting() == 0));
}

#[test]
fn a_frame_goes_to_the_place_of_its_station_and_nowhere_else() {
    let (mut segment, guests) = segment(&[Delivery::Dropped, Delivery::Accepted]);
    // Its owner does not take it. The other one would, but is not asked: a guest that has moved
    // is found because it is announced.
    assert_eq!(segment.offer(&frame(mac(0), mac(9))), Delivery::Dropped);
    assert_eq!(guests[1].got(), 0);
    segment.learn(mac(0), 1);
    assert_eq!(segment.offer(&frame(mac(0), mac(9))), Delivery::Accepted);
    // The sender's own side of the wire is not asked either.
    assert_eq!(segment.offer(&frame(mac(9), mac(8))), Delivery::Dropped);
}

#[test]
fn a_loaded_address_that_is_known_elsewhere_is_told() {
    let (segment, _) = segment(&[Delivery::Accepted; 2]);
    assert_eq!(segment.claim(&mac(0), 1), Some(0));
    assert_eq!(segment.claim(&mac(0), 0), None);
    assert_eq!(segment.claim(&mac(77), 0), None);
}

#[test]
fn the_waiting_bytes_are_bounded() {
    let (mut segment, _) = segment(&[Delivery::NoBuffer]);
    let mut jumbo = frame(mac(0), mac(9));
    jumbo.resize(65_550, 0);
    for _ in 0..WAITING {
        segment.send(0, jumbo.clone());
    }
    assert!(segment.ports[0].waiting() * jumbo.len() <= WAITING_BYTES);
    segment.retry(Instant::now() + PATIENCE);
    assert_eq!(segment.ports[0].waiting_bytes, 0);
}
