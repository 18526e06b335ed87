//! The `process.Process` service: each method finds its process and asks it.

use std::{sync::Arc, time::Duration};

use connectrpc::{
    ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult,
    ServiceStream,
};
use futures::StreamExt;
use rustix::process::Signal as KernelSignal;
use soulbox_wire::process::{
    __buffa::oneof::{process_selector::Selector, stream_input_request::Event},
    CloseStdinRequest, CloseStdinResponse, ConnectRequest, ConnectResponse, ListRequest,
    ListResponse, Process as ProcessService, ProcessInput, SendInputRequest, SendInputResponse,
    SendSignalRequest, SendSignalResponse, Signal, StartRequest, StartResponse, StreamInputRequest,
    StreamInputResponse, UpdateRequest, UpdateResponse,
};

use super::{
    Process, command, pump, stream,
    table::{Found, not_found, selector},
};
use crate::{State, auth::Acting, log::Level};

/// How long the client gives a process to live, in milliseconds.
const TIMEOUT_HEADER: &str = "connect-timeout-ms";

/// Serves `process.Process`.
#[derive(Debug)]
pub struct Service {
    state: Arc<State>,
}

impl Service {
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// The living process that a selector leads to.
    fn live(&self, selector: &Selector) -> Result<Arc<Process>, ConnectError> {
        match self.state.processes.find(selector) {
            Some(Found::Live(process)) => Ok(process),
            Some(Found::Ended { .. }) | None => Err(not_found(selector)),
        }
    }

    /// Hands input to a living process. One that ended meanwhile is not there, as a moment later.
    async fn write(
        selector: &Selector,
        process: &Process,
        input: ProcessInput,
    ) -> Result<(), ConnectError> {
        match process.input.write(input).await {
            Err(_) if process.has_ended() => Err(not_found(selector)),
            written => written,
        }
    }
}

impl ProcessService for Service {
    async fn list(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, ListRequest>,
    ) -> ServiceResult<ListResponse> {
        let processes = self.state.processes.list();
        Response::ok(ListResponse { processes, ..ListResponse::default() })
    }

    async fn start(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, StartRequest>,
    ) -> ServiceResult<ServiceStream<StartResponse>> {
        let limit = time_limit(&context)?;
        let interval = stream::keepalive_interval(&context);
        let acting = Acting::of(context.extensions());
        let (started, outputs) = command::start(&self.state, &acting, request.to_owned_message())
            .inspect_err(|error| {
            self.state.log.add(Level::Warn, "process not started", [("error", error.to_string())]);
        })?;
        let process = Arc::clone(&started.process);
        // Before anything is read: the first output must find its subscriber.
        let subscription = process.output.subscribe();
        let pid = process.pid.cast_unsigned();
        self.state.log.add(
            Level::Info,
            "process started",
            [
                ("pid", pid.to_string()),
                ("cmd", process.config.cmd.clone()),
                ("args", process.config.args.join(" ")),
            ],
        );
        let id = started.id;
        let pump = tokio::spawn(pump::run(Arc::clone(&self.state), started, outputs, limit));
        self.state.processes.set_pump(id, pump.abort_handle());
        let events = stream::events(pid, stream::Source::Live(subscription), interval);
        Ok(Response::stream(events.map(|event| {
            event.map(|event| StartResponse { event: event.into(), ..StartResponse::default() })
        })))
    }

    async fn connect(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ConnectRequest>,
    ) -> ServiceResult<ServiceStream<ConnectResponse>> {
        let interval = stream::keepalive_interval(&context);
        let selector = selector(request.to_owned_message().process)?;
        let (pid, source) = match self.state.processes.find(&selector) {
            Some(Found::Live(process)) => {
                let subscription = process.output.subscribe();
                (process.pid.cast_unsigned(), stream::Source::Live(subscription))
            }
            Some(Found::Ended { pid, end }) => (pid, stream::Source::Ended(end)),
            None => return Err(not_found(&selector)),
        };
        Ok(Response::stream(stream::events(pid, source, interval).map(|event| {
            event.map(|event| ConnectResponse { event: event.into(), ..ConnectResponse::default() })
        })))
    }

    async fn update(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, UpdateRequest>,
    ) -> ServiceResult<UpdateResponse> {
        let UpdateRequest { process, pty, .. } = request.to_owned_message();
        let process = self.live(&selector(process)?)?;
        if let Some(size) = command::new_size(pty)? {
            process.input.resize(size)?;
        }
        Response::ok(UpdateResponse::default())
    }

    async fn stream_input(
        &self,
        _: RequestContext,
        mut requests: InboundStream<StreamInputRequest>,
    ) -> ServiceResult<StreamInputResponse> {
        let mut process = None;
        while let Some(request) = requests.next().await {
            match (request?.to_owned_message().event, &process) {
                (Some(Event::Start(start)), None) => {
                    let selector = selector(start.process)?;
                    process = Some((self.live(&selector)?, selector));
                }
                (Some(Event::Data(data)), Some((process, selector))) => {
                    Self::write(selector, process, input(data.input)?).await?;
                }
                (Some(Event::Keepalive(_)), _) => {}
                (Some(Event::Start(_)), Some(_)) => {
                    return Err(ConnectError::invalid_argument("only one start event is expected"));
                }
                (Some(Event::Data(_)), None) => {
                    return Err(ConnectError::invalid_argument("expected a start event first"));
                }
                (None, _) => return Err(ConnectError::unimplemented("event type not given")),
            }
        }
        Response::ok(StreamInputResponse::default())
    }

    async fn send_input(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendInputRequest>,
    ) -> ServiceResult<SendInputResponse> {
        let request = request.to_owned_message();
        let selector = selector(request.process)?;
        let process = self.live(&selector)?;
        Self::write(&selector, &process, input(request.input)?).await?;
        Response::ok(SendInputResponse::default())
    }

    async fn send_signal(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, SendSignalRequest>,
    ) -> ServiceResult<SendSignalResponse> {
        let request = request.to_owned_message();
        let process = self.live(&selector(request.process)?)?;
        let sent = match request.signal.as_known() {
            Some(Signal::SIGNAL_SIGKILL) => process.kill().await,
            Some(Signal::SIGNAL_SIGTERM) => process.signal(KernelSignal::TERM),
            _ => {
                let number = request.signal.to_i32();
                return Err(ConnectError::unimplemented(format!("invalid signal: {number}")));
            }
        };
        sent.map_err(|error| ConnectError::internal(format!("error sending signal: {error}")))?;
        Response::ok(SendSignalResponse::default())
    }

    async fn close_stdin(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, CloseStdinRequest>,
    ) -> ServiceResult<CloseStdinResponse> {
        let process = self.live(&selector(request.to_owned_message().process)?)?;
        process.input.close().await?;
        Response::ok(CloseStdinResponse::default())
    }
}

fn input(input: impl Into<Option<ProcessInput>>) -> Result<ProcessInput, ConnectError> {
    input.into().ok_or_else(|| ConnectError::unimplemented("input type not given"))
}

/// How long the process may live; absent and 0 are for ever.
fn time_limit(context: &RequestContext) -> Result<Option<Duration>, ConnectError> {
    let Some(value) = context.header(TIMEOUT_HEADER) else { return Ok(None) };
    let milliseconds: i64 = value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ConnectError::invalid_argument("Connect-Timeout-Ms is not a number"))?;
    Ok(u64::try_from(milliseconds).ok().filter(|n| *n > 0).map(Duration::from_millis))
}
