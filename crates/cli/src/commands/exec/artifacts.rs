//! Files that a program made, listed and brought out.
//!
//! What is in a sandbox is hostile: how many files there are, what they are called, how large they are and
//! whether they end. Only plain files are taken, by names that stay in the target on this machine, and links
//! are followed on neither side.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use tokio::{io::AsyncWrite, time::timeout};

use crate::{
    args::artifact::{MAX_DEPTH, Pattern, matches},
    client::{Remote, remote::Kind},
    failure::{Failure, Result},
    output::Output,
    progress::Step,
};

/// Files that are told.
const MAX_FILES: usize = 256;
/// Directories that are looked into.
const MAX_DIRECTORIES: usize = 1000;
/// Names that are looked at.
const MAX_SEEN: usize = 100_000;
/// Bytes of a name; more does no file system take.
const MAX_NAME: usize = 255;
/// Bytes that are brought out of one file, and of all.
const MAX_FILE: u64 = 64 << 20;
const MAX_ALL: u64 = 256 << 20;
/// For all of it: a file may be something that never ends, or never begins.
const LIMIT: Duration = Duration::from_secs(45);

#[derive(Debug, Default, Serialize)]
pub(super) struct Collected {
    pub(super) artifacts: Vec<Artifact>,
    /// How many more there were: links, special files, impossible names, and what is beyond all limits.
    pub(super) artifacts_left_out: usize,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Artifact {
    /// Relative to where the program ran.
    pub(super) name: String,
    /// Bytes, as the sandbox says; as they were copied where they were.
    pub(super) size: u64,
    /// As its name says.
    pub(super) media_type: String,
    /// Whether there is more of it than is brought out.
    pub(super) truncated: bool,
}

/// Makes the directory for copies, before anything is run for what it shall hold.
///
/// # Errors
/// If it takes no files.
pub(super) fn prepare(to: &Path) -> Result<()> {
    let mut place = Target::open(to)?.place("probe")?;
    place.as_mut().map_or(Ok(()), |place| place.file().map(drop))
}

/// Lists what of `wanted` is below `root` inside, and copies it to a directory where one is named.
///
/// # Errors
/// If the sandbox does not answer, or the directory takes no files.
pub(super) async fn collect(
    remote: &Remote,
    root: &str,
    (wanted, to): (&[Pattern], Option<&Path>),
    output: &Output,
) -> Result<Collected> {
    if wanted.is_empty() {
        return Ok(Collected::default());
    }
    let late =
        || Failure::Protocol(format!("artifacts are not there within {} s", LIMIT.as_secs()));
    let work = async {
        let mut found =
            Search { remote, root, found: BTreeMap::new(), directories: 0, seen: 0, left_out: 0 };
        for pattern in wanted {
            found.look(pattern).await?;
        }
        let (found, mut left_out) = (found.found, found.left_out);
        let mut artifacts: Vec<Artifact> =
            found.into_iter().map(|(name, size)| artifact(name, size)).collect();
        if let Some(to) = to {
            let step = Step::bytes(output, None, "fetching artifacts");
            left_out += copy(remote, root, &mut artifacts, to, &step).await?;
        }
        Ok(Collected { artifacts, artifacts_left_out: left_out })
    };
    timeout(LIMIT, work).await.map_err(|_| late())?
}

fn artifact(name: String, size: u64) -> Artifact {
    let media_type = mime_guess::from_path(&name).first_or_octet_stream().essence_str().to_owned();
    Artifact { name, size, media_type, truncated: size > MAX_FILE }
}

/// Whether it is a name in one directory, that can be shown and made anywhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control() || turns(c))
}

/// Whether it changes the direction of the text behind it, or is not seen at all.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

struct Search<'a> {
    remote: &'a Remote,
    root: &'a str,
    /// Name and size.
    found: BTreeMap<String, u64>,
    directories: usize,
    seen: usize,
    left_out: usize,
}

impl Search<'_> {
    async fn look(&mut self, pattern: &Pattern) -> Result<()> {
        // Directories, and what of the pattern is below each.
        let mut pending = vec![(String::new(), pattern.parts())];
        while let Some((dir, parts)) = pending.pop() {
            if self.directories >= MAX_DIRECTORIES || self.seen >= MAX_SEEN {
                self.left_out += pending.len() + 1;
                return Ok(());
            }
            self.directories += 1;
            let listed = match self.remote.list_dir(&join(self.root, &dir)).await {
                Ok(listed) => listed,
                // It went meanwhile, or it is no directory that can be read.
                Err(Failure::Answer { .. } | Failure::NotFound { .. } | Failure::Protocol(_)) => {
                    self.left_out += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            for entry in listed.iter().take(MAX_SEEN.saturating_sub(self.seen)) {
                self.seen += 1;
                let (name, size, kind) = (&entry.name, entry.size(), entry.kind());
                let (first, below) = match parts.split_first() {
                    Some((first, below)) => (Some(first), below),
                    None => (None, parts),
                };
                if first.is_some_and(|part| !matches(part, name)) {
                    continue;
                }
                let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
                let deep = path.split('/').count() > MAX_DEPTH;
                match kind {
                    _ if !is_plain(name) || deep => self.left_out += 1,
                    Kind::Directory if pending.len() < MAX_DIRECTORIES => {
                        pending.push((path, below))
                    }
                    Kind::Directory => self.left_out += 1,
                    Kind::File if !below.is_empty() => {}
                    Kind::File if self.found.contains_key(&path) => {}
                    Kind::File if self.found.len() < MAX_FILES => {
                        self.found.insert(path, size);
                    }
                    Kind::File => self.left_out += 1,
                    Kind::Other if below.is_empty() => self.left_out += 1,
                    Kind::Other => {}
                }
            }
        }
        Ok(())
    }
}

fn join(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") }
}

/// Copies what is listed; takes out of the list what cannot be, and says how many.
async fn copy(
    remote: &Remote,
    root: &str,
    artifacts: &mut Vec<Artifact>,
    to: &Path,
    step: &Step,
) -> Result<usize> {
    let target = Target::open(to)?;
    let (mut kept, mut all, mut left_out) = (Vec::new(), 0, 0);
    for mut artifact in artifacts.drain(..) {
        let room = MAX_FILE.min(MAX_ALL - all);
        let Some(mut place) = target.place(&artifact.name)?.filter(|_| room > 0) else {
            left_out += 1;
            continue;
        };
        let mut into =
            Bounded { file: tokio::fs::File::from_std(place.file()?), left: room, cut: false };
        let fetched = remote.download(&join(root, &artifact.name), None, &mut into, step).await;
        let copied = room - into.left;
        match fetched {
            Ok(()) => {}
            Err(_) if into.cut => artifact.truncated = true,
            // It is gone, or is none of the user's any more.
            Err(Failure::Answer { .. } | Failure::NotFound { .. }) => {
                left_out += 1;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        if !into.cut {
            artifact.size = copied;
            artifact.truncated = false;
        }
        // Behind the last byte of what is written.
        into.file.sync_all().await.map_err(Failure::io(to.display().to_string()))?;
        if place.keep().is_err() {
            left_out += 1;
            continue;
        }
        all += copied;
        kept.push(artifact);
    }
    *artifacts = kept;
    Ok(left_out)
}

/// Brings `most` bytes of one file out, and says whether there is more.
///
/// # Errors
/// If there is none.
pub(super) async fn fetch(
    remote: &Remote,
    path: &str,
    most: usize,
    output: &Output,
) -> Result<(Vec<u8>, bool)> {
    let mut into = Bounded { file: Vec::new(), left: most as u64, cut: false };
    let step = Step::bytes(output, None, "fetching the result");
    let fetched = timeout(LIMIT, remote.download(path, None, &mut into, &step)).await;
    let fetched = fetched.map_err(|_| Failure::Protocol(format!("{path} has no end")))?;
    match fetched {
        Err(failure) if !into.cut => Err(failure),
        _ => Ok((into.file, into.cut)),
    }
}

/// Takes so many bytes and no more.
struct Bounded<W> {
    file: W,
    left: u64,
    cut: bool,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Bounded<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 && !bytes.is_empty() {
            self.cut = true;
            return Poll::Ready(Err(io::Error::other("enough")));
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let written = std::task::ready!(Pin::new(&mut self.file).poll_write(cx, &bytes[..room]))?;
        self.left -= written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}

/// A directory of the user's, below which files are made.
struct Target(OwnedFd);

/// A file that is not yet called what it shall be.
struct Place {
    dir: OwnedFd,
    name: String,
    /// Of the file while it is written.
    fresh: Option<String>,
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::PATH).union(OFlags::CLOEXEC);

impl Target {
    fn open(to: &Path) -> Result<Self> {
        let context = || Failure::io(to.display().to_string());
        std::fs::create_dir_all(to).map_err(context())?;
        let opened = rustix::fs::openat(CWD, to, DIRECTORY, Mode::empty());
        Ok(Self(opened.map_err(|error| context()(error.into()))?))
    }

    /// Where the file `name` goes, with the directories above it; `None` where something else is in the way.
    fn place(&self, name: &str) -> Result<Option<Place>> {
        let parts: Vec<&str> = name.split('/').collect();
        let Some((last, above)) =
            parts.split_last().filter(|_| parts.iter().all(|part| is_plain(part)))
        else {
            return Ok(None);
        };
        let inside =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let open = |dir: &OwnedFd, part: &str| {
            rustix::fs::openat2(dir, part, DIRECTORY, Mode::empty(), inside)
        };
        let mut dir = open(&self.0, ".").map_err(|error| Failure::io(name)(error.into()))?;
        for part in above {
            match rustix::fs::mkdirat(&dir, *part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(Failure::io(name)(error.into())),
            }
            // A file or a link of that name is somebody's, and stays.
            let Ok(below) = open(&dir, part) else { return Ok(None) };
            dir = below;
        }
        Ok(Some(Place { dir, name: (*last).to_owned(), fresh: None }))
    }
}

impl Place {
    fn file(&mut self) -> Result<File> {
        let fresh = format!(".soulbox-{}", uuid::Uuid::new_v4().simple());
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&self.dir, &fresh, flags, Mode::from_raw_mode(0o644));
        let made = made.map_err(|error| Failure::io(&self.name)(error.into()))?;
        self.fresh = Some(fresh);
        Ok(File::from(made))
    }

    /// Gives it its name, in the place of a file or link that had it.
    fn keep(mut self) -> io::Result<()> {
        let Some(fresh) = &self.fresh else { return Ok(()) };
        rustix::fs::renameat(&self.dir, fresh, &self.dir, &self.name)?;
        self.fresh = None;
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(fresh) = &self.fresh {
            let _ = rustix::fs::unlinkat(&self.dir, fresh, rustix::fs::AtFlags::empty());
        }
    }
}

#[cfg(test)]
#[path = "artifacts_tests.rs"]
mod tests;
