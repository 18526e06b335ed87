//! `POST /files/compose`: joins files that were uploaded in pieces.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rustix::{
    fs::{FileType, Gid, Mode, OFlags, Uid, copy_file_range, fchown},
    io::Errno,
};
use serde::Deserialize;

use super::{
    refusal::{Refusal, Result},
    target::Saved,
};
use crate::{
    State,
    fs::{Actor, Error, blocking, directory},
    reply,
};

/// How much is copied before it is checked whether anybody still waits, in bytes.
const STEP: usize = 64 * 1024 * 1024;

/// The longest request, in bytes.
const MAX_ORDER: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Order {
    #[serde(default)]
    source_paths: Vec<String>,
    #[serde(default)]
    destination: String,
    username: Option<String>,
}

pub async fn post(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    match compose(state, request.into_body()).await {
        Ok(saved) => reply::json(StatusCode::OK, &saved),
        Err(refusal) => refusal.into_response(),
    }
}

async fn compose(state: Arc<State>, body: Body) -> Result<Saved> {
    let body = to_bytes(body, MAX_ORDER).await.map_err(|_| {
        let message = format!("the request body is longer than {MAX_ORDER} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    })?;
    let order: Order = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad_request(format!("invalid request body: {error}")))?;
    if order.source_paths.is_empty() {
        return Err(Refusal::bad_request("source_paths must name at least one file"));
    }
    if order.destination.is_empty() {
        return Err(Refusal::bad_request("destination is required"));
    }
    // Dropped with this future when the client goes away.
    let wanted = Wanted(Arc::new(AtomicBool::new(true)));
    let still_wanted = Arc::clone(&wanted.0);
    blocking(move || join(&state, &order, &still_wanted)).await?
}

struct Wanted(Arc<AtomicBool>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn join(state: &State, order: &Order, wanted: &AtomicBool) -> Result<Saved> {
    let user = order.username.as_deref().filter(|name| !name.is_empty());
    let actor = Actor::find(state, user)?;
    let destination = actor.resolve(&order.destination)?;
    let mut sources = Vec::new();
    for source in &order.source_paths {
        let source = actor.resolve(source)?;
        check_source(&source, &destination)?;
        sources.push(source);
    }
    if rustix::fs::stat(&destination)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    {
        let message = format!("path is a directory: {}", destination.display());
        return Err(Refusal::bad_request(message));
    }
    if directory::ensure_parent(&destination, &actor.user)? {
        state.watchers.settle();
    }
    let mut draft = Draft::beside(&destination)?;
    for source in &sources {
        draft.append(source, wanted)?;
    }
    let owner = (Some(Uid::from_raw(actor.user.uid)), Some(Gid::from_raw(actor.user.gid)));
    fchown(&draft.file, owner.0, owner.1)
        .map_err(|error| failed("changing the owner of", &draft.path, error))?;
    draft.publish(&destination)?;
    for source in &sources {
        // A source may be named twice; what cannot be deleted is left.
        let _ = rustix::fs::unlink(source);
    }
    Ok(Saved::new(&destination, Default::default()))
}

fn check_source(source: &Path, destination: &Path) -> Result<()> {
    let shown = source.display();
    let stat = rustix::fs::stat(source).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => {
            Refusal::from(Error::NotFound(format!("source path '{shown}' does not exist")))
        }
        error => failed("statting", source, error),
    })?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::bad_request(format!("source path '{shown}' is not a regular file")));
    }
    let is_destination = rustix::fs::stat(destination)
        .is_ok_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino));
    if is_destination || source == destination {
        return Err(Refusal::bad_request(format!(
            "source path '{shown}' is the destination itself"
        )));
    }
    Ok(())
}

/// The joined file before it has its name; deleted unless it gets one.
struct Draft {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Draft {
    fn beside(destination: &Path) -> Result<Self> {
        let name = format!(".compose-{:032x}", rand::random::<u128>());
        let path = destination.with_file_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o666))
            .map_err(|error| failed("creating", &path, error))?;
        Ok(Self { path, file: file.into(), published: false })
    }

    fn append(&mut self, source: &Path, wanted: &AtomicBool) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut file = File::from(
            rustix::fs::open(source, flags, Mode::empty())
                .map_err(|error| failed("opening", source, error))?,
        );
        loop {
            if !wanted.load(Ordering::Relaxed) {
                return Err(Error::Internal("nobody waits for the joined file".to_owned()).into());
            }
            match copy_file_range(&file, None, &self.file, None, STEP) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                // Not between these file systems.
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return io::copy(&mut file, &mut self.file).map(drop).map_err(|error| {
                        Error::io(format!("error copying file {}", source.display()), error).into()
                    });
                }
                Err(error) => return Err(failed("copying", source, error)),
            }
        }
    }

    fn publish(mut self, destination: &Path) -> Result<()> {
        rustix::fs::rename(&self.path, destination)
            .map_err(|error| failed("renaming to", destination, error))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // It was made here, under a name that nobody else knows.
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

fn failed(doing: &str, path: &Path, error: Errno) -> Refusal {
    Error::io(format!("error {doing} file {}", path.display()), error).into()
}
