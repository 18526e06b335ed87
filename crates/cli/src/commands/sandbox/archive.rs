//! Directories, as a tar stream through a command in the sandbox.
//!
//! What comes out of a sandbox is hostile: only files, directories and links are made from it, never
//! outside the target, never with another owner or a set-user-id bit.

use std::{
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{SinkExt as _, StreamExt as _, channel::mpsc, executor::block_on};
use tokio::task::spawn_blocking;

use super::session::{self, Input};
use crate::{
    client::{
        Remote,
        process::{Config, Data, End},
        remote::Launch,
    },
    failure::{Failure, Result},
    output::{Output, plain},
    progress::Step,
};

/// What is sent at a time.
const CHUNK: usize = 64 << 10;
/// What is kept of the words of a `tar` that failed.
const MAX_SAID: usize = 4096;

/// What was not copied, as it is neither file, directory nor link.
#[derive(Debug, Default)]
pub(in crate::commands) struct LeftOut {
    count: usize,
    first: Option<PathBuf>,
}

impl LeftOut {
    fn add(&mut self, name: &Path) {
        self.count += 1;
        self.first.get_or_insert_with(|| name.to_owned());
    }

    /// Says so.
    pub(in crate::commands) fn tell(&self, output: &Output) {
        if let Some(first) = &self.first {
            let name = plain(&first.display().to_string());
            let more = match self.count - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            output.note(format!("not copied: {name}{more}, neither file, directory nor link"));
        }
    }
}

/// Copies what is in `from` into the directory `to` of the sandbox.
pub(super) async fn send(
    remote: &Remote,
    from: PathBuf,
    to: &str,
    user: Option<&str>,
    step: Arc<Step>,
) -> Result<LeftOut> {
    send_without(remote, from, to, user, step, Vec::new()).await
}

/// The same without what lies at one of the paths `without` below `from`.
pub(in crate::commands) async fn send_without(
    remote: &Remote,
    from: PathBuf,
    to: &str,
    user: Option<&str>,
    step: Arc<Step>,
    without: Vec<String>,
) -> Result<LeftOut> {
    let (sender, chunks) = mpsc::channel(2);
    let pipe = Pipe { sender, buffer: Vec::new(), step };
    let packing = spawn_blocking(move || pack(&from, &without, pipe));
    let launch = tar(user, &["-x", "-f", "-", "-C", to, "--no-same-owner"]);
    let mut said = Vec::new();
    let end = session::run(
        remote,
        launch,
        Input::Chunks(chunks),
        |_| None,
        async |data| {
            keep(&mut said, data);
            Ok(())
        },
    )
    .await?;
    match packing.await.map_err(lost)? {
        // What went wrong here, a tar that got half an archive cannot know. But its reason to give up is better than
        // that of the pipe it left behind.
        Err(Failure::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            check(&end, &said).and_then(|()| Err(Failure::io("copying")(source)))
        }
        Err(failure) => Err(failure),
        Ok(left_out) => check(&end, &said).map(|()| left_out),
    }
}

/// Copies what is in the directory `from` of the sandbox into `to`.
pub(super) async fn receive(
    remote: &Remote,
    from: &str,
    to: PathBuf,
    user: Option<&str>,
    step: Arc<Step>,
) -> Result<()> {
    let (mut sender, chunks) = mpsc::channel::<Vec<u8>>(2);
    let unpacking = spawn_blocking(move || unpack_all(&to, Chunks::of(chunks)));
    let launch = tar(user, &["-c", "-f", "-", "-C", from, "."]);
    let mut said = Vec::new();
    let ended = session::run(
        remote,
        launch,
        Input::None,
        |_| None,
        async |data| {
            if let Data::Stdout(bytes) = data {
                step.advance(bytes.0.len() as u64);
                // The other side stops listening when it fails, and says why.
                return sender.send(bytes.0).await.map_err(|_| Failure::Exit(1));
            }
            keep(&mut said, data);
            Ok(())
        },
    )
    .await;
    drop(sender);
    unpacking.await.map_err(lost)??;
    check(&ended?, &said)
}

fn tar(user: Option<&str>, args: &[&str]) -> Launch {
    let process = Config {
        cmd: "tar".into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Config::default()
    };
    Launch { process, user: user.map(str::to_owned), ..Launch::default() }
}

fn keep(said: &mut Vec<u8>, data: Data) {
    let (Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) = data;
    said.extend_from_slice(&bytes.0[..bytes.0.len().min(MAX_SAID - said.len())]);
}

fn check(end: &End, said: &[u8]) -> Result<()> {
    match end.code() {
        0 => Ok(()),
        127 => Err(Failure::Environment {
            message: "there is no `tar` in the sandbox".into(),
            hint: "copy single files, or install tar in it".into(),
        }),
        code => {
            let said = String::from_utf8_lossy(said);
            let full = ["No space left", "quota exceeded", "Wrote only"];
            if full.iter().any(|words| said.contains(words)) {
                let last = said.lines().next().unwrap_or_default();
                return Err(Failure::Environment {
                    message: format!("the disk of the sandbox is full: {}", plain(last)),
                    hint: "copy less, or give a project more with `--set resources.disk=5GB`"
                        .into(),
                });
            }
            let said = plain(said.trim());
            Err(Failure::Protocol(format!("tar in the sandbox ended with {code}: {said}")))
        }
    }
}

fn lost(error: tokio::task::JoinError) -> Failure {
    Failure::io("copying")(io::Error::other(error))
}

fn pack(from: &Path, without: &[String], pipe: Pipe) -> Result<LeftOut> {
    let mut archive = tar::Builder::new(pipe);
    archive.follow_symlinks(false);
    let mut left_out = LeftOut::default();
    if without.is_empty() {
        // Its mode is copied, too.
        archive.append_dir(".", from).map_err(Failure::io(from.display().to_string()))?;
    }
    append(&mut archive, from, Path::new(""), without, &mut left_out)?;
    archive
        .into_inner()
        .and_then(|mut pipe| io::Write::flush(&mut pipe))
        .map_err(Failure::io(from.display().to_string()))?;
    Ok(left_out)
}

/// Packs what is in the directory `below` of `from`.
fn append(
    archive: &mut tar::Builder<Pipe>,
    from: &Path,
    below: &Path,
    without: &[String],
    left_out: &mut LeftOut,
) -> Result<()> {
    let here = from.join(below);
    let context = |path: &Path| Failure::io(plain(&path.display().to_string()));
    for entry in std::fs::read_dir(&here).map_err(context(&here))? {
        let entry = entry.map_err(context(&here))?;
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        if without.iter().any(|left| name == Path::new(left)) {
            continue;
        }
        let kind = entry.file_type().map_err(context(&path))?;
        let added = if kind.is_dir() {
            archive.append_dir(&name, &path)
        } else if kind.is_file() {
            append_file(archive, &path, &name)
        } else if kind.is_symlink() {
            // As it is: a link stays one.
            archive.append_path_with_name(&path, &name)
        } else {
            left_out.add(&name);
            continue;
        };
        match added {
            // Programs that run make and remove files all the time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            added => added.map_err(context(&path))?,
        }
        if kind.is_dir() {
            append(archive, from, &name, without, left_out)?;
        }
    }
    Ok(())
}

/// As long as it was when it was opened, even if somebody writes to it: the archive has said so by then.
fn append_file(archive: &mut tar::Builder<Pipe>, path: &Path, name: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let size = metadata.len();
    if metadata.blocks() * 512 < size {
        // With holes, which this knows to leave out.
        return archive.append_path_with_name(path, name);
    }
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    archive.append_data(&mut header, name, file.chain(io::repeat(0)).take(size))
}

/// Listens to the end of the stream, not only of the archive: `tar` fills up what it writes last, and who sends
/// that must not find that nobody listens.
fn unpack_all(to: &Path, mut stream: impl io::Read) -> Result<()> {
    unpack(to, &mut stream)?;
    io::copy(&mut stream, &mut io::sink()).map(drop).map_err(Failure::io("copying"))
}

pub(crate) fn unpack(to: &Path, stream: impl io::Read) -> Result<()> {
    let context = || Failure::io(to.display().to_string());
    std::fs::create_dir_all(to).map_err(context())?;
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_permissions(false);
    archive.set_preserve_ownerships(false);
    archive.set_unpack_xattrs(false);
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(context())? {
        let mut entry = entry.map_err(context())?;
        match entry.header().entry_type() {
            // A directory without write permission would refuse what belongs into it.
            tar::EntryType::Directory => directories.push(entry),
            tar::EntryType::Regular
            | tar::EntryType::Continuous
            | tar::EntryType::Symlink
            | tar::EntryType::Link => {
                // False: a name that leads out of the target.
                entry.unpack_in(to).map_err(context())?;
            }
            other => tracing::debug!(?other, "left out: neither file, directory nor link"),
        }
    }
    // Deepest first, as they may take away the right to enter.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        directory.unpack_in(to).map_err(context())?;
    }
    Ok(())
}

/// Writes a tar stream into a channel.
struct Pipe {
    sender: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
    step: Arc<Step>,
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.buffer);
        self.step.advance(chunk.len() as u64);
        block_on(self.sender.send(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads a tar stream out of a channel.
struct Chunks {
    chunks: mpsc::Receiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Chunks {
    fn of(chunks: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { chunks, current: Vec::new(), at: 0 }
    }
}

impl io::Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match block_on(self.chunks.next()) {
                Some(chunk) => (self.current, self.at) = (chunk, 0),
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.current.len() - self.at);
        into[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Chunks {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        let bytes = builder.into_inner().expect("an archive");
        let (mut sender, chunks) = mpsc::channel(1000);
        for chunk in bytes.chunks(700) {
            sender.try_send(chunk.to_vec()).expect("room");
        }
        Chunks::of(chunks)
    }

    fn entry(kind: tar::EntryType, name: &str, link: &str, mode: u32, body: &[u8]) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        // Written raw: the library refuses names that leave the directory.
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().expect("gnu").linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(mode);
        header.set_size(body.len() as u64);
        header.set_cksum();
        header
    }

    #[test]
    fn a_hostile_archive_stays_in_its_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("in");
        let chunks = archive(|tar| {
            let mut add = |kind, name: &str, link: &str, mode, body: &[u8]| {
                let header = entry(kind, name, link, mode, body);
                tar.append(&header, body).expect("appended");
            };
            add(tar::EntryType::Regular, "ok", "", 0o6755, b"fine");
            add(tar::EntryType::Regular, "../up", "", 0o644, b"bad");
            add(tar::EntryType::Char, "null", "", 0o666, b"");
        });
        unpack(&target, chunks).expect("unpacked");
        assert_eq!(std::fs::read(target.join("ok")).expect("there"), b"fine");
        let mode = std::fs::metadata(target.join("ok")).expect("there").permissions().mode();
        assert_eq!(mode & 0o7000, 0, "{mode:o}");
        assert!(!outside.path().join("up").exists());
        assert!(!target.join("null").exists());
    }

    fn packed(from: &Path) -> (Result<LeftOut>, PathBuf, tempfile::TempDir) {
        let into = tempfile::tempdir().expect("a directory");
        let target = into.path().join("in");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _guard = runtime.enter();
        let (sender, chunks) = mpsc::channel(2);
        let step = Arc::new(Step::bytes(&Output::new(true), None, "packing"));
        let pipe = Pipe { sender, buffer: Vec::new(), step };
        let path = target.clone();
        let unpacking = std::thread::spawn(move || unpack_all(&path, Chunks::of(chunks)));
        let done = pack(from, &["left".into()], pipe);
        unpacking.join().expect("ends").expect("unpacked");
        (done, target, into)
    }

    #[test]
    fn what_is_no_file_is_left_out_and_counted() {
        let from = tempfile::tempdir().expect("a directory");
        let at = |name: &str| from.path().join(name);
        for name in ["left", "below"] {
            std::fs::create_dir(at(name)).expect("made");
            std::fs::write(at(name).join("a\nb"), b"text").expect("written");
        }
        std::os::unix::fs::symlink("nowhere", at("link")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("below/socket")).expect("bound");
        let (done, target, _into) = packed(from.path());
        let left_out = done.expect("packed");
        assert_eq!(left_out.first.as_deref(), Some(Path::new("below/socket")));
        assert_eq!(left_out.count, 1);
        assert_eq!(std::fs::read(target.join("below/a\nb")).expect("there"), b"text");
        assert_eq!(std::fs::read_link(target.join("link")).expect("a link"), Path::new("nowhere"));
        assert!(!target.join("left").exists());
    }

    #[test]
    fn a_file_that_grows_meanwhile_spoils_nothing() {
        use std::{
            io::Write as _,
            sync::atomic::{AtomicBool, Ordering},
        };
        let from = tempfile::tempdir().expect("a directory");
        for name in ["a", "b", "c"] {
            std::fs::write(from.path().join(name), vec![b'x'; 1 << 20]).expect("written");
        }
        let done = Arc::new(AtomicBool::new(false));
        let writing = {
            let (done, path) = (Arc::clone(&done), from.path().to_owned());
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    for name in ["a", "b", "c"] {
                        let file = std::fs::File::options().append(true).open(path.join(name));
                        file.and_then(|mut file| file.write_all(b"yyyy")).expect("appended");
                    }
                }
            })
        };
        for _ in 0..20 {
            let (packed, target, _into) = packed(from.path());
            packed.expect("packed");
            for name in ["a", "b", "c"] {
                assert!(std::fs::metadata(target.join(name)).expect("there").len() >= 1 << 20);
            }
        }
        done.store(true, Ordering::Relaxed);
        writing.join().expect("ends");
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let end = End { exit_code: 2, exited: true, ..End::default() };
        let failure =
            check(&end, b"tar: big: Wrote only 1536 of 10240 bytes\ntar: Exiting").unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the disk of the sandbox is full: tar: big: Wrote only 1536 of 10240 bytes"
        );
        assert!(failure.hint().expect("a hint").contains("resources.disk"));
    }

    #[test]
    fn what_fills_up_an_archive_is_listened_to() {
        let target = tempfile::tempdir().expect("a directory");
        let (mut sender, chunks) = mpsc::channel(0);
        let path = target.path().to_owned();
        let unpacking = std::thread::spawn(move || unpack_all(&path, Chunks::of(chunks)));
        let mut builder = tar::Builder::new(Vec::new());
        let header = entry(tar::EntryType::Regular, "file", "", 0o644, b"body");
        builder.append(&header, &b"body"[..]).expect("appended");
        block_on(sender.send(builder.into_inner().expect("an archive"))).expect("listened to");
        // The archive is complete for a while by now, and unpacked.
        while !target.path().join("file").exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        block_on(sender.send(vec![0; 8192])).expect("listened to");
        drop(sender);
        unpacking.join().expect("ends").expect("unpacked");
    }

    #[test]
    fn a_link_does_not_lead_a_later_file_out() {
        let outside = tempfile::tempdir().expect("a directory");
        let target = outside.path().join("in");
        let elsewhere = outside.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).expect("made");
        let chunks = archive(|tar| {
            let link = elsewhere.to_str().expect("UTF-8").to_owned();
            let header = entry(tar::EntryType::Symlink, "way", &link, 0o777, b"");
            tar.append(&header, &b""[..]).expect("appended");
            let header = entry(tar::EntryType::Regular, "way/out", "", 0o644, b"bad");
            tar.append(&header, &b"bad"[..]).expect("appended");
        });
        assert!(unpack(&target, chunks).is_err());
        assert!(!elsewhere.join("out").exists());
    }
}
