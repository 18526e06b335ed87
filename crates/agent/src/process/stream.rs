//! What an attached client receives: a start, chunks and signs of life, an end.

use std::{pin::Pin, time::Duration};

use connectrpc::{ConnectError, RequestContext};
use futures::{Stream, stream};
use soulbox_wire::process::{
    __buffa::oneof::process_event::{Event, data_event::Output},
    ProcessEvent,
    process_event::{DataEvent, EndEvent, KeepAlive, StartEvent},
};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    exit::End,
    output::{Chunk, Subscription},
};

/// How often a silent stream shows a sign of life when the client does not say.
const KEEPALIVE: Duration = Duration::from_secs(90);
const KEEPALIVE_HEADER: &str = "keepalive-ping-interval";

/// What is sent next.
enum Next {
    Start { pid: u32, then: Source },
    More { source: Subscription, keepalive: Pin<Box<Sleep>> },
    End(End),
    Nothing,
}

/// Where a stream gets its events after the start.
pub(super) enum Source {
    Live(Subscription),
    Ended(End),
}

/// The longest silence that the client wants, from its request headers.
pub(super) fn keepalive_interval(context: &RequestContext) -> Duration {
    context
        .header(KEEPALIVE_HEADER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .filter(|seconds| *seconds > 0)
        .map_or(KEEPALIVE, |seconds: u32| Duration::from_secs(seconds.into()))
}

/// The events of one client.
pub(super) fn events(
    pid: u32,
    source: Source,
    interval: Duration,
) -> impl Stream<Item = Result<ProcessEvent, ConnectError>> + Send {
    stream::unfold(Next::Start { pid, then: source }, move |next| async move {
        match next {
            Next::Start { pid, then } => {
                let next = match then {
                    Source::Live(source) => {
                        Next::More { source, keepalive: Box::pin(sleep(interval)) }
                    }
                    Source::Ended(end) => Next::End(end),
                };
                Some((Ok(event(StartEvent { pid, ..StartEvent::default() })), next))
            }
            Next::More { source, keepalive } => Some(more(source, keepalive, interval).await),
            Next::End(end) => Some((Ok(event(EndEvent::from(end))), Next::Nothing)),
            Next::Nothing => None,
        }
    })
}

async fn more(
    mut source: Subscription,
    mut keepalive: Pin<Box<Sleep>>,
    interval: Duration,
) -> (Result<ProcessEvent, ConnectError>, Next) {
    let next = tokio::select! {
        biased;
        next = source.next() => next,
        () = &mut keepalive => {
            keepalive.as_mut().reset(Instant::now() + interval);
            return (Ok(event(KeepAlive::default())), Next::More { source, keepalive });
        }
    };
    match next {
        Ok(chunk) => {
            keepalive.as_mut().reset(Instant::now() + interval);
            (Ok(event(data(chunk))), Next::More { source, keepalive })
        }
        Err(Some(end)) => (Ok(event(EndEvent::from(end))), Next::Nothing),
        Err(None) => (Err(ConnectError::unavailable("the agent is shutting down")), Next::Nothing),
    }
}

fn event(event: impl Into<Event>) -> ProcessEvent {
    ProcessEvent { event: Some(event.into()), ..ProcessEvent::default() }
}

fn data(chunk: Chunk) -> DataEvent {
    let output = match chunk {
        Chunk::Stdout(bytes) => Output::Stdout(bytes.into()),
        Chunk::Stderr(bytes) => Output::Stderr(bytes.into()),
        Chunk::Terminal(bytes) => Output::Pty(bytes.into()),
    };
    DataEvent { output: Some(output), ..DataEvent::default() }
}
