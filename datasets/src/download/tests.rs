//! Fetching from a server that misbehaves, and unpacking archives that do.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::sync::mpsc;

use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::part::FillError;
use super::server::{Reply, Server};
use super::*;
use crate::quarantine::report;

const NAME: &str = "data.gz";

/// A file of no pattern, larger than what is written at once.
fn file() -> Vec<u8> {
    let mut state = 1_u32;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    bytes.take(200_000).collect()
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder to fetch into.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Fetches `file` from folders of a server; what happened, and the error that a user would read.
    fn fetch(&self, file: &[u8], folders: &[String]) -> (Vec<String>, Result<(), String>) {
        let mirrors: Vec<_> = folders.iter().map(String::as_str).collect();
        let remote = Remote { name: NAME, md5: &md5(file), mirrors: &mirrors };
        let mut told = Vec::new();
        let fetched = downloader().fetch(&remote, &self.0.path().join("raw"), &mut |progress| {
            // How many pieces a file comes in is up to the system.
            match progress {
                Progress::Fetching { done, total, .. } => {
                    assert!(total.is_none_or(|total| done <= total), "{done} of {total:?}");
                }
                other => told.push(other.to_string()),
            }
        });
        let fetched = match fetched {
            Ok(path) => {
                assert_eq!(path, self.path(NAME));
                assert!(fs::read(path).unwrap() == file, "other bytes");
                Ok(())
            }
            Err(error) => Err(report(&error).replace(&self.0.path().display().to_string(), "~")),
        };
        (told, fetched)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("raw").join(name)
    }

    fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::create_dir_all(self.0.path().join("raw")).unwrap();
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// The names of all files.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("raw")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// One that does not wait between rounds.
fn downloader() -> Downloader {
    let patience = Patience { connect: Duration::from_secs(20), read: Duration::from_millis(500) };
    Downloader::new(patience, vec![Duration::ZERO; 3])
}

/// What the server was asked for, until the file was whole.
fn requests(replies: &[Reply], folder: &Folder) -> Vec<String> {
    let server = Server::new(&file(), replies);
    let (told, fetched) = folder.fetch(&file(), &[server.folder("a")]);
    assert_eq!(fetched, Ok(()), "{told:?}");
    assert_eq!(folder.names(), [NAME]);
    server.requests()
}

/// What a user reads when nothing helps; what is left in the folder is returned.
fn refused(replies: &[Reply], expected: Expect) -> Vec<String> {
    let (server, folder) = (Server::new(&file(), replies), Folder::new());
    let (_, fetched) = folder.fetch(b"another file", &[server.folder("a")]);
    expected.assert_eq(&server.without_port(&fetched.unwrap_err()));
    folder.names()
}

#[test]
fn a_file_is_asked_for_once_and_never_again() {
    let (server, folder) = (Server::new(&file(), &[Reply::Rest]), Folder::new());
    let (told, fetched) = folder.fetch(&file(), &[server.folder("a")]);
    assert_eq!((told, fetched), (vec!["fetched data.gz: 0.2 MB".to_owned()], Ok(())));
    assert_eq!(folder.names(), [NAME]);
    assert_eq!(server.requests(), ["GET /a/data.gz"]);
    assert_eq!(folder.fetch(&file(), &[server.folder("a")]), (vec![], Ok(())));
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let asked = requests(&[Reply::Break(70_000), Reply::Break(1), Reply::Rest], &Folder::new());
    assert_eq!(asked, ["GET /a/data.gz", "GET /a/data.gz bytes=70000-", "GET /a/data.gz bytes=70001-"]);
}

#[test]
fn as_long_as_bytes_arrive_it_goes_on() {
    // More often than there are pauses.
    let asked = requests(&[&[Reply::Break(1000); 20][..], &[Reply::Rest]].concat(), &Folder::new());
    assert_eq!(asked[20], "GET /a/data.gz bytes=20000-");
    let left = refused(
        &[Reply::Break(10), Reply::Break(0)],
        expect![
            "fetch http://127.0.0.1:PORT/a/data.gz: the connection broke before the file was whole; its first 10 bytes are kept in ~/raw/data.gz.part"
        ],
    );
    assert_eq!(left, ["data.gz.part"]);
}

#[test]
fn what_a_killed_process_left_is_gone_on_with() {
    let folder = Folder::new().with("data.gz.part", &file()[..150_000]);
    assert_eq!(requests(&[Reply::Rest], &folder), ["GET /a/data.gz bytes=150000-"]);
    // All of it, but for the name.
    let folder = Folder::new().with("data.gz.part", &file());
    assert_eq!(requests(&[Reply::Rest], &folder), ["GET /a/data.gz bytes=200000-"]);
}

#[test]
fn a_server_that_sends_no_parts_begins_anew() {
    let asked = requests(&[Reply::Break(70_000), Reply::Whole], &Folder::new());
    assert_eq!(asked, ["GET /a/data.gz", "GET /a/data.gz bytes=70000-"]);
    let asked = requests(&[Reply::Break(70_000), Reply::OtherPart, Reply::Rest], &Folder::new());
    assert_eq!(asked, ["GET /a/data.gz", "GET /a/data.gz bytes=70000-", "GET /a/data.gz"]);
}

#[test]
fn the_beginning_of_another_file_is_thrown_away() {
    let folder = Folder::new().with("data.gz.part", &[7; 1000]);
    assert_eq!(requests(&[Reply::Rest], &folder), ["GET /a/data.gz bytes=1000-", "GET /a/data.gz"]);
}

#[test]
fn a_wrong_file_is_refused_and_nothing_of_it_left() {
    let left = refused(
        &[Reply::Rest],
        expect![
            "fetch http://127.0.0.1:PORT/a/data.gz: it sent 200000 bytes with the MD5 c4ac56b386a4c628aeeac2212bd0d897, expected 50e55790ffe629eab86d207fc98bf710"
        ],
    );
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_server_without_the_file_is_not_asked_again() {
    let left =
        refused(&[Reply::Status(404)], expect!["fetch http://127.0.0.1:PORT/a/data.gz: it answered 404 Not Found"]);
    assert_eq!(left, [""; 0]);

    let (server, folder) = (Server::new(&file(), &[Reply::Status(404), Reply::Break(5), Reply::Rest]), Folder::new());
    let (told, fetched) = folder.fetch(&file(), &[server.folder("gone"), server.folder("there")]);
    assert_eq!(fetched, Ok(()));
    assert_eq!(server.requests(), ["GET /gone/data.gz", "GET /there/data.gz", "GET /there/data.gz bytes=5-"]);
    expect!["fetching data.gz: http://127.0.0.1:PORT/there/data.gz: the connection broke before the file was whole; trying again in 0 s"].assert_eq(&server.without_port(&told[0]));
}

#[test]
fn a_server_in_trouble_is_asked_again_a_few_times() {
    assert_eq!(requests(&[Reply::Status(503), Reply::Rest], &Folder::new()).len(), 2);
    let server = Server::new(&file(), &[Reply::Status(503)]);
    let (_, fetched) = Folder::new().fetch(&file(), &[server.folder("a")]);
    expect!["fetch http://127.0.0.1:PORT/a/data.gz: it answered 503 Service Unavailable"]
        .assert_eq(&server.without_port(&fetched.unwrap_err()));
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn where_nobody_listens_the_next_is_asked() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("http://127.0.0.1:{port}/a/");
    let folder = Folder::new();
    let (_, fetched) = folder.fetch(&file(), std::slice::from_ref(&nobody));
    expect!["fetch http://127.0.0.1:PORT/a/data.gz: Connection refused (os error 111)"]
        .assert_eq(&fetched.unwrap_err().replace(&port.to_string(), "PORT"));
    assert_eq!(folder.names(), [""; 0]);

    let server = Server::new(&file(), &[Reply::Rest]);
    assert_eq!(folder.fetch(&file(), &[nobody, server.folder("b")]).1, Ok(()));
}

#[test]
fn a_silent_server_is_left() {
    let asked = requests(&[Reply::Stall(500), Reply::Rest], &Folder::new());
    assert_eq!(asked[..2], ["GET /a/data.gz", "GET /a/data.gz bytes=500-"]);
    refused(
        &[Reply::Stall(5), Reply::Stall(0)],
        expect![
            "fetch http://127.0.0.1:PORT/a/data.gz: it was silent for 0.5 s; its first 5 bytes are kept in ~/raw/data.gz.part"
        ],
    );
}

#[test]
fn a_full_disk_is_named_and_no_other_server_asked() {
    let (server, folder) = (Server::new(&file(), &[Reply::Rest]), Folder::new());
    fs::create_dir(folder.0.path().join("raw")).unwrap();
    symlink("/dev/full", folder.path("data.gz.part")).unwrap();
    let (_, fetched) = folder.fetch(&file(), &[server.folder("a"), server.folder("b")]);
    expect!["fetch http://127.0.0.1:PORT/a/data.gz: write ~/raw/data.gz.part: No space left on device (os error 28)"]
        .assert_eq(&server.without_port(&fetched.unwrap_err()));
    assert!(!folder.path(NAME).exists());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let (server, folder) = (Server::new(&file(), &[Reply::Rest]), Folder::new());
    fs::write(folder.0.path().join("raw"), "a file").unwrap();
    let (_, fetched) = folder.fetch(&file(), &[server.folder("a")]);
    expect!["fetch http://127.0.0.1:PORT/a/data.gz: make the folder ~/raw: File exists (os error 17)"]
        .assert_eq(&server.without_port(&fetched.unwrap_err()));
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn a_file_that_another_process_makes_is_waited_for() {
    let (server, folder) = (Server::new(&file(), &[Reply::Rest]), Folder::new());
    let mut other = Part::open(&folder.path(NAME), || panic!("nobody else is there")).unwrap().unwrap();
    other.fill(&mut &file()[..], u64::MAX, &mut |_| ()).unwrap();
    let (waits, waited) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (bytes, mirror) = (file(), server.folder("a"));
            let remote = Remote { name: NAME, md5: &md5(&bytes), mirrors: &[&mirror] };
            let fetched = downloader().fetch(&remote, &folder.path(""), &mut |progress| {
                waits.send(progress.to_string()).unwrap();
            });
            fetched.unwrap();
        });
        let told = waited.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(told, "waiting for another process that makes data.gz");
        other.publish().unwrap();
    });
    assert_eq!(waited.try_recv().ok(), None);
    assert_eq!(server.requests(), [""; 0]);
    assert_eq!(folder.names(), [NAME]);
}

#[test]
fn a_file_that_another_process_gives_up_is_made() {
    let (server, folder) = (Server::new(&file(), &[Reply::Rest]), Folder::new());
    let other = Part::open(&folder.path(NAME), || panic!("nobody else is there")).unwrap().unwrap();
    let (waits, waited) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let part = Part::open(&folder.path(NAME), || waits.send(()).unwrap()).unwrap().unwrap();
            assert_eq!(part.len(), 0);
        });
        waited.recv_timeout(Duration::from_secs(30)).unwrap();
        other.discard().unwrap();
    });
    assert_eq!(folder.fetch(&file(), &[server.folder("a")]).1, Ok(()));
}

#[test]
fn no_more_is_written_than_may_be() {
    let folder = Folder::new();
    let mut part = Part::open(&folder.path(NAME), || ()).unwrap().unwrap();
    let outcome = part.fill(&mut std::io::repeat(1), 100_000, &mut |_| ());
    assert!(matches!(outcome, Err(FillError::TooMany)), "{outcome:?}");
    assert!(part.len() <= 100_000, "{}", part.len());
}

/// A `.tar.gz`; paths go in as they are.
fn tar_gz(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, bytes) in entries {
        writer.start_file(*path, SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Takes `set/one` and `set/two` out of an archive.
fn unpacked(archive: &str, bytes: &[u8]) -> (Folder, Vec<String>, Result<(), String>) {
    let folder = Folder::new().with(archive, bytes);
    let member = |name: &str| Member { path: format!("set/{name}"), file: folder.path("out").join(name) };
    let mut told = Vec::new();
    let outcome = unpack(&folder.path(archive), &[member("one"), member("two")], &mut |progress| {
        told.push(progress.to_string());
    });
    let outcome = outcome.map_err(|error| report(&error).replace(&folder.0.path().display().to_string(), "~"));
    (folder, told, outcome)
}

#[test]
fn only_what_is_asked_for_comes_out_of_an_archive() {
    use tar::EntryType::{Regular, Symlink};
    let archives = [
        (
            "set.tar.gz",
            tar_gz(&[
                ("../../evil", Regular, b"evil"),
                ("/tmp/evil", Regular, b"evil"),
                ("set/../one", Regular, b"evil"),
                ("set/one", Symlink, b""),
                ("./set/two", Regular, b"2"),
                ("set/one", Regular, b"1"),
                ("set/one", Regular, b"evil"),
            ]),
        ),
        ("set.zip", zip(&[("../../evil", b"evil"), ("set/two", b"2"), ("set/one", b"1")])),
    ];
    for (name, archive) in archives {
        let (folder, mut told, outcome) = unpacked(name, &archive);
        assert_eq!(outcome, Ok(()), "{name}");
        told.sort();
        assert_eq!(told, [format!("unpacking one from {name}"), format!("unpacking two from {name}")]);
        assert_eq!(fs::read(folder.path("out/one")).unwrap(), b"1");
        assert_eq!(fs::read(folder.path("out/two")).unwrap(), b"2");
        assert_eq!(fs::read_dir(folder.path("out")).unwrap().count(), 2);
        assert_eq!(folder.names(), ["out", name]);
        assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
    }
}

#[test]
fn an_archive_that_lacks_a_file_or_is_damaged_is_named() {
    let check = |name: &str, bytes: &[u8], expected: Expect| {
        let (folder, _, outcome) = unpacked(name, bytes);
        expected.assert_eq(&outcome.unwrap_err());
        assert!(!folder.path("out/two").exists());
        assert!(!folder.path("out/two.part").exists());
    };
    let regular = tar::EntryType::Regular;
    check(
        "a.tar.gz",
        &tar_gz(&[("set/one", regular, b"1")]),
        expect!["~/raw/a.tar.gz: holds no set/two; remove it to have it fetched again"],
    );
    check(
        "a.zip",
        &zip(&[("set/one", b"1")]),
        expect!["~/raw/a.zip: holds no set/two; remove it to have it fetched again"],
    );
    let whole = tar_gz(&[("set/one", regular, b"1"), ("set/two", regular, &file())]);
    check(
        "a.tar.gz",
        &whole[..whole.len() / 2],
        expect![
            "unpack ~/raw/a.tar.gz; if it is damaged, remove it to have it fetched again: incomplete deflate stream"
        ],
    );
    let mut whole = zip(&[("set/one", b"1"), ("set/two", &file())]);
    check(
        "a.zip",
        &whole[..whole.len() / 2],
        expect![
            "unpack ~/raw/a.zip; if it is damaged, remove it to have it fetched again: invalid Zip archive: Could not find EOCD"
        ],
    );
    let middle = whole.len() / 2;
    whole[middle] ^= 1;
    check(
        "a.zip",
        &whole,
        expect!["unpack ~/raw/a.zip; if it is damaged, remove it to have it fetched again: Invalid checksum"],
    );
}
