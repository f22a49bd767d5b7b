// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::{io::Read, os::unix::fs::symlink, thread};

use rustix::fs::{mknodat, FileType, Mode, CWD};

use super::*;

fn write(path: &Path, data: &[u8]) -> Result<()> {
    let mut out = OutFile::open(path)?;
    out.write_all(data)?;
    out.finish()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("folder");
    let mut names: Vec<String> = entries
        .map(|e| e.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_regular_file_is_replaced_as_a_whole() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("image");
    fs::write(&path, "old").expect("file");
    let mut out = OutFile::open(&path).expect("open");
    out.write_all(b"new").expect("write");
    assert_eq!(fs::read(&path).expect("file"), b"old");
    drop(out);
    assert_eq!(fs::read(&path).expect("file"), b"old");
    assert_eq!(names(dir.path()), ["image"]);
    write(&path, b"new").expect("write");
    assert_eq!(fs::read(&path).expect("file"), b"new");
    let rights = |path: &Path| path.metadata().expect("file").mode() & 0o777;
    for mode in [0o640, 0o604] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("rights");
        write(&path, b"new").expect("write");
        assert_eq!(
            rights(&path),
            mode,
            "the rights of the file are its owner's"
        );
    }
    let another = dir.path().join("another");
    write(&another, b"x").expect("write");
    assert_eq!(rights(&another), 0o600);
    assert_eq!(names(dir.path()), ["another", "image"]);
}

#[test]
fn a_link_stays_a_link_and_its_target_changes() {
    let dir = tempfile::tempdir().expect("folder");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("below")).expect("folder");
    fs::write(at("below/real"), "old").expect("file");
    symlink("below/real", at("link")).expect("link");
    symlink("link", at("second")).expect("link");
    symlink("below/free", at("dangling")).expect("link");
    for link in ["link", "second", "dangling"] {
        write(&at(link), link.as_bytes()).expect(link);
        assert!(at(link).is_symlink(), "{link} was replaced");
        assert_eq!(fs::read(at(link)).expect(link), link.as_bytes());
    }
    assert_eq!(names(&at("below")), ["free", "real"]);
    symlink("loop", at("loop")).expect("link");
    assert!(write(&at("loop"), b"x").is_err());
    assert!(at("loop").is_symlink());
}

#[test]
fn a_device_is_written_and_stays() {
    let dir = tempfile::tempdir().expect("folder");
    let link = dir.path().join("null");
    symlink("/dev/null", &link).expect("link");
    write(&link, b"data").expect("write");
    assert!(link.is_symlink(), "the way to the device was replaced");
    let kind = fs::metadata("/dev/null").expect("device").file_type();
    assert!(kind.is_char_device());
    assert_eq!(names(dir.path()), ["null"]);
}

#[test]
fn a_pipe_is_written_and_stays() {
    let dir = tempfile::tempdir().expect("folder");
    let pipe = dir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from(0o600), 0).expect("pipe");
    let reader = thread::spawn({
        let pipe = pipe.clone();
        // Both ways, so that this end does not wait for a writer that never comes.
        let open = move || OpenOptions::new().read(true).write(true).open(pipe);
        move || {
            let mut data = [0; 4];
            open().and_then(|mut file| file.read_exact(&mut data))?;
            io::Result::Ok(data)
        }
    });
    write(&pipe, b"data").expect("write");
    let kind = fs::symlink_metadata(&pipe).expect("pipe").file_type();
    assert!(kind.is_fifo(), "the pipe was replaced");
    assert_eq!(&reader.join().expect("thread").expect("read"), b"data");
}

#[test]
fn a_file_that_is_open_is_written_and_stays() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("open");
    fs::write(&path, "longer than what follows").expect("file");
    let open = File::open(&path).expect("file");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
    for way in [format!("/dev/fd/{fd}"), format!("/proc/self/fd/{fd}")] {
        write(Path::new(&way), way.as_bytes()).expect("write");
        assert_eq!(fs::read_to_string(&path).expect("file"), way);
        let (now, then) = (
            path.metadata().expect("file"),
            open.metadata().expect("file"),
        );
        assert_eq!(now.ino(), then.ino(), "the file was replaced");
    }
}

#[test]
fn folders_are_refused_at_once() {
    let dir = tempfile::tempdir().expect("folder");
    let error = OutFile::open(dir.path()).expect_err("a folder");
    assert!(format!("{error:#}").contains("Is a directory"), "{error:#}");
    let missing = dir.path().join("none/image");
    let error = OutFile::open(&missing).expect_err("no such folder");
    assert!(
        format!("{error:#}").contains("cannot create a file in"),
        "{error:#}"
    );
    assert!(names(dir.path()).is_empty());
}
