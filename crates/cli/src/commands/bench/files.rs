//! A large file up and down, against the same client and a plain file behind plain HTTP.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::State, routing::get};
use futures::StreamExt as _;
use soulbox_model::SandboxId;
use tokio::{fs::File, io::AsyncWriteExt as _, net::TcpListener};
use tokio_util::{io::ReaderStream, task::AbortOnDropHandle};

use super::{Interrupt, Report, Row, trip::in_one};
use crate::{
    client::{Endpoint, Remote, Server, http::Http},
    commands::subject::{Subject, fresh_dir, remove},
    failure::{Failure, Result},
    output::Output,
    progress::Step,
    settings::Settings,
};

/// Where the file lies inside.
const PATH: &str = "/home/user/bench.bin";
const READ: usize = 256 << 10;

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    (mebibytes, rounds): (u32, u32),
    interrupt: &Interrupt,
) -> Result<Report> {
    let dir = fresh_dir("files")?;
    let sizes = (u64::from(mebibytes) << 20, rounds);
    let work =
        async |remote: &Remote| measure(settings, subject, remote, &dir, sizes, interrupt).await;
    let measured = in_one(subject, work).await;
    remove(&dir);
    measured
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    remote: &Remote,
    dir: &Path,
    (bytes, rounds): (u64, u32),
    interrupt: &Interrupt,
) -> Result<Report> {
    let source = dir.join("source");
    write_source(&source, bytes).await?;
    let plain = Plain::start(dir.join("plain")).await?;
    let step = Step::count(&settings.output, u64::from(rounds), "moving files");
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..=rounds {
        interrupt.check()?;
        let took = [
            upload(&plain.remote, &source).await?,
            upload(remote, &source).await?,
            download(&plain.remote).await?,
            download(remote).await?,
        ];
        // The first round fills caches.
        if round > 0 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
            step.advance(1);
        }
    }
    drop(step);
    let [mut plain_up, mut up, mut plain_down, mut down] = times;
    let bottom_up = Row::floor("floor, upload", &mut plain_up);
    let bottom_down = Row::floor("floor, download", &mut plain_down);
    let up = Row::above("upload", &mut up, &bottom_up);
    let down = Row::above("download", &mut down, &bottom_down);
    let words = (
        "a file over HTTP into a live sandbox and back",
        "the same client and a server that writes to and reads from a plain file on this machine",
    );
    let rows = vec![bottom_up, up, bottom_down, down];
    Ok(Report::new(subject, words, rounds as usize, rows))
}

async fn write_source(path: &Path, bytes: u64) -> Result<()> {
    let failed = |error| Failure::io("the file to send")(error);
    let mut file = File::create(path).await.map_err(failed)?;
    let block: Vec<u8> = (0..1 << 20).map(|_| rand::random()).collect();
    for _ in 0..bytes >> 20 {
        file.write_all(&block).await.map_err(failed)?;
    }
    file.sync_all().await.map_err(failed)
}

async fn upload(remote: &Remote, source: &Path) -> Result<Duration> {
    let file = File::open(source).await.map_err(Failure::io("the file to send"))?;
    let step = Arc::new(Step::bytes(&Output::new(true), None, "upload"));
    let began = Instant::now();
    remote.upload(PATH, None, file, step).await?;
    Ok(began.elapsed())
}

async fn download(remote: &Remote) -> Result<Duration> {
    let step = Step::bytes(&Output::new(true), None, "download");
    let began = Instant::now();
    remote.download(PATH, None, &mut tokio::io::sink(), &step).await?;
    Ok(began.elapsed())
}

/// A server with nothing but one file.
struct Plain {
    remote: Remote,
    _serving: AbortOnDropHandle<()>,
}

impl Plain {
    async fn start(file: PathBuf) -> Result<Self> {
        let failed = || Failure::io("a plain server");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let router = Router::new()
            .route("/files", get(send).post(receive))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(file);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let endpoint: Endpoint = format!("http://{address}")
            .parse()
            .map_err(|error| Failure::Protocol(format!("{address}: {error}")))?;
        let http = Arc::new(Http::new(endpoint, String::new(), None)?);
        let server = Server::new(Arc::clone(&http), http, String::new());
        let remote = server.remote_with(&SandboxId::random(), None);
        Ok(Self { remote, _serving: AbortOnDropHandle::new(serving) })
    }
}

async fn send(State(path): State<PathBuf>) -> std::result::Result<Body, String> {
    let file = File::open(path).await.map_err(|error| error.to_string())?;
    Ok(Body::from_stream(ReaderStream::with_capacity(file, READ)))
}

async fn receive(State(path): State<PathBuf>, body: Body) -> std::result::Result<(), String> {
    let mut file = File::create(path).await.map_err(|error| error.to_string())?;
    let mut data = body.into_data_stream();
    while let Some(chunk) = data.next().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        file.write_all(&chunk).await.map_err(|error| error.to_string())?;
    }
    file.flush().await.map_err(|error| error.to_string())
}
