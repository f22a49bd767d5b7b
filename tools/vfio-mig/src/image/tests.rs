// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;

fn sample() -> Vec<u8> {
    let header = Header {
        device: "0000:00:05.0".into(),
        flags: 7,
        ..Header::default()
    };
    let mut w = Writer::new(Vec::new(), &header).expect("header");
    w.block(Phase::PreCopy, b"running").expect("block");
    w.block(Phase::StopCopy, b"stopped").expect("block");
    w.block(Phase::StopCopy, &[]).expect("nothing");
    w.finish().expect("end").0
}

fn check(image: &[u8]) -> Result<(Header, Summary), ImageError> {
    verify(Reader::new(image)?)
}

#[test]
fn written_and_read() {
    let image = sample();
    let (header, summary) = check(&image[..]).expect("good image");
    assert_eq!(header.device, "0000:00:05.0");
    assert_eq!(
        (
            summary.pre_copy_bytes,
            summary.stop_copy_bytes,
            summary.blocks
        ),
        (7, 7, 2)
    );
    let mut reader = Reader::new(&image[..]).expect("header");
    let (mut data, mut all) = (Vec::new(), Vec::new());
    while reader.next(&mut data).expect("block").is_none() {
        all.extend_from_slice(&data);
    }
    assert_eq!(all, b"runningstopped");
}

#[test]
fn every_flipped_bit_is_found() {
    let image = sample();
    for bit in 0..image.len() * 8 {
        let mut bad = image.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bad[..]).is_err(), "bit {bit}");
    }
}

#[test]
fn every_truncation_is_found() {
    let image = sample();
    for length in 0..image.len() {
        assert!(
            matches!(check(&image[..length]), Err(ImageError::Truncated)),
            "{length}"
        );
    }
    let mut longer = image;
    longer.push(0);
    assert!(matches!(check(&longer[..]), Err(ImageError::Damaged(_))));
    // On a block device it is whole all the same.
    let padded = Reader::new(&longer[..]).expect("header").padded();
    verify(padded).expect("good image");
}

#[test]
fn large_reads_are_split() {
    let mut w = Writer::new(io::sink(), &Header::default()).expect("header");
    w.block(Phase::StopCopy, &vec![0; MAX_BLOCK as usize + 1])
        .expect("block");
    assert_eq!(w.finish().expect("end").1.blocks, 2);
}
