//! `filesystem.Filesystem`: each method is parse, one piece of work on a blocking thread, render.

#![allow(refining_impl_trait)]

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use connectrpc::{
    ConnectError, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream,
};
use futures::stream;
use soulbox_wire::filesystem::{
    CreateWatcherRequest, CreateWatcherResponse, Filesystem, FilesystemEvent,
    GetWatcherEventsRequest, GetWatcherEventsResponse, ListDirRequest, ListDirResponse,
    MakeDirRequest, MakeDirResponse, MoveRequest, MoveResponse, RemoveRequest, RemoveResponse,
    RemoveWatcherRequest, RemoveWatcherResponse, StatRequest, StatResponse, WatchDirRequest,
    WatchDirResponse, watch_dir_response,
};

use super::{
    Entry, Error, Result,
    actor::{Actor, UnknownUser},
    blocking, directory, list, remove,
    watch::{Follow, Options},
    wire::Shape,
};
use crate::{State, auth::Acting, users::NoUser};

/// How often a silent stream shows that it lives, if the client names no interval.
const KEEPALIVE: Duration = Duration::from_secs(90);
const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

#[derive(Debug)]
pub struct FilesystemService {
    state: Arc<State>,
}

impl FilesystemService {
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Runs `work` for the acting user where it may block.
    async fn on_disk<T: Send + 'static>(
        &self,
        context: &RequestContext,
        work: impl FnOnce(&State, Actor) -> Result<T> + Send + 'static,
    ) -> Result<T, ConnectError> {
        let acting = Acting::of(context.extensions());
        let state = Arc::clone(&self.state);
        let done = blocking(move || match Actor::find(&state, acting.name.as_deref()) {
            Ok(actor) => work(&state, actor).map_err(ConnectError::from),
            Err(unknown) => Err(unknown.into()),
        });
        done.await?
    }

    async fn follow(
        &self,
        context: &RequestContext,
        path: String,
        options: Options,
    ) -> Result<Follow, ConnectError> {
        let path = self.on_disk(context, move |_, actor| actor.resolve(&path)).await?;
        Ok(self.state.watchers.follow(path.to_string_lossy().into_owned(), options).await?)
    }
}

impl From<UnknownUser> for ConnectError {
    fn from(unknown: UnknownUser) -> Self {
        if let NoUser::Unreadable(why) = unknown.why {
            return Self::internal(why.to_string());
        }
        let what = if unknown.is_default { "default user" } else { "username" };
        Self::unauthenticated(format!("invalid {what}: '{}'", unknown.name))
    }
}

fn describe(path: &Path, actor: &Actor) -> Result<Entry> {
    let shown = path.to_string_lossy().into_owned();
    Entry::read(path, shown, &actor.users).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotFound(format!("file not found: {}", path.display()))
        }
        _ => Error::io(format!("error statting {}", path.display()), error),
    })
}

/// Tells clients that get less than there is.
fn reply<T>(shape: Shape, body: T) -> ServiceResult<T> {
    match shape {
        Shape::Full => Response::ok(body),
        Shape::Legacy => Ok(Response::new(body).with_header("x-e2b-legacy-sdk", "true")),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Filesystem for FilesystemService {
    async fn stat(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, StatRequest>,
    ) -> ServiceResult<StatResponse> {
        let path = request.path.to_owned();
        let entry = self
            .on_disk(&context, move |_, actor| describe(&actor.resolve(&path)?, &actor))
            .await?;
        let shape = Shape::wanted_by(context.headers());
        let entry = shape.entry(entry);
        reply(shape, StatResponse { entry: Some(entry).into(), ..Default::default() })
    }

    async fn make_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, MakeDirRequest>,
    ) -> ServiceResult<MakeDirResponse> {
        let path = request.path.to_owned();
        let entry = self
            .on_disk(&context, move |state, actor| {
                let path = actor.resolve(&path)?;
                directory::make(&path, &actor.user)?;
                state.watchers.settle();
                describe(&path, &actor)
            })
            .await?;
        let shape = Shape::wanted_by(context.headers());
        let entry = shape.entry(entry);
        reply(shape, MakeDirResponse { entry: Some(entry).into(), ..Default::default() })
    }

    async fn r#move(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, MoveRequest>,
    ) -> ServiceResult<MoveResponse> {
        let (source, destination) = (request.source.to_owned(), request.destination.to_owned());
        let entry = self
            .on_disk(&context, move |state, actor| {
                let (source, destination) = (actor.resolve(&source)?, actor.resolve(&destination)?);
                directory::rename(&source, &destination, &actor.user)?;
                state.watchers.settle();
                describe(&destination, &actor)
            })
            .await?;
        let shape = Shape::wanted_by(context.headers());
        let entry = shape.entry(entry);
        reply(shape, MoveResponse { entry: Some(entry).into(), ..Default::default() })
    }

    async fn list_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ListDirRequest>,
    ) -> ServiceResult<ListDirResponse> {
        let (path, depth) = (request.path.to_owned(), request.depth.max(1));
        let shape = Shape::wanted_by(context.headers());
        let entries = self
            .on_disk(&context, move |_, actor| {
                let path: PathBuf = actor.resolve(&path)?;
                let entries = list::list(&shown(&path), depth, &actor.users)?;
                Ok(entries.into_iter().map(|entry| shape.entry(entry)).collect())
            })
            .await?;
        reply(shape, ListDirResponse { entries, ..Default::default() })
    }

    async fn remove(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, RemoveRequest>,
    ) -> ServiceResult<RemoveResponse> {
        let path = request.path.to_owned();
        self.on_disk(&context, move |_, actor| remove::remove(&actor.resolve(&path)?)).await?;
        Response::ok(RemoveResponse::default())
    }

    async fn watch_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, WatchDirRequest>,
    ) -> ServiceResult<ServiceStream<WatchDirResponse>> {
        let request = request.to_owned_message();
        let options = Options::from(&request);
        let follow = self.follow(&context, request.path, options).await?;
        let shape = Shape::wanted_by(context.headers());
        let watching = Watching {
            follow,
            shape,
            keepalive: keepalive_interval(&context),
            next: Next::Start,
            events: VecDeque::new(),
        };
        let events = stream::unfold(watching, Watching::step);
        reply(shape, Box::pin(events) as ServiceStream<WatchDirResponse>)
    }

    async fn create_watcher(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, CreateWatcherRequest>,
    ) -> ServiceResult<CreateWatcherResponse> {
        let request = request.to_owned_message();
        let options = Options::from(&request);
        let follow = self.follow(&context, request.path, options).await?;
        let watcher_id = self.state.watchers.keep(follow);
        Response::ok(CreateWatcherResponse { watcher_id, ..Default::default() })
    }

    async fn get_watcher_events(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, GetWatcherEventsRequest>,
    ) -> ServiceResult<GetWatcherEventsResponse> {
        let shape = Shape::wanted_by(context.headers());
        let events = self.state.watchers.poll(request.watcher_id).await?;
        let events = events.into_iter().map(|event| shape.event(event)).collect();
        reply(shape, GetWatcherEventsResponse { events, ..Default::default() })
    }

    async fn remove_watcher(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, RemoveWatcherRequest>,
    ) -> ServiceResult<RemoveWatcherResponse> {
        self.state.watchers.forget(request.watcher_id)?;
        Response::ok(RemoveWatcherResponse::default())
    }
}

/// The stream of one `WatchDir` call; dropping it ends the watch.
struct Watching {
    follow: Follow,
    shape: Shape,
    keepalive: Duration,
    next: Next,
    events: VecDeque<FilesystemEvent>,
}

enum Next {
    Start,
    Event,
    End,
}

impl Watching {
    async fn step(mut self) -> Option<(Result<WatchDirResponse, ConnectError>, Self)> {
        use watch_dir_response::{KeepAlive, StartEvent};
        let event = match self.next {
            Next::End => return None,
            Next::Start => {
                self.next = Next::Event;
                StartEvent::default().into()
            }
            Next::Event => {
                if self.events.is_empty() {
                    match tokio::time::timeout(self.keepalive, self.follow.next()).await {
                        Ok(Ok(events)) => {
                            let shape = self.shape;
                            self.events = events.into_iter().map(|e| shape.event(e)).collect();
                        }
                        Ok(Err(error)) => {
                            self.next = Next::End;
                            return Some((Err(error.into()), self));
                        }
                        Err(_) => {}
                    }
                }
                match self.events.pop_front() {
                    Some(event) => event.into(),
                    None => KeepAlive::default().into(),
                }
            }
        };
        Some((Ok(WatchDirResponse { event, ..Default::default() }), self))
    }
}

/// Seconds in a header; anything but a positive number is the default.
fn keepalive_interval(context: &RequestContext) -> Duration {
    context
        .header(KEEPALIVE_HEADER)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok())
        .filter(|seconds| *seconds > 0)
        .map_or(KEEPALIVE, |seconds| Duration::from_secs(seconds.into()))
}
