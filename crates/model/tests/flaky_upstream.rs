//! The retry policy against an upstream behind a proxy that injects faults: real connections on loopback.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use soulbox_model::{BreakerPolicy, Breakers, Error, RetryPolicy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What happens to one connection; those beyond the script pass.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Closed before anything is said.
    Drop,
    /// Half an answer, then closed.
    Cut,
    /// Never answered.
    Hang,
    /// 503, with Retry-After in milliseconds.
    Busy(u64),
    /// 400.
    Refuse,
    Pass,
}

struct Proxy {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn start(script: &'static [Fault], otherwise: Fault) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = upstream.local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            tokio::join!(serve(upstream), inject(front, behind, script, otherwise, count));
        });
        Self { address, connections, task }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The upstream itself is well.
async fn serve(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut question = [0; 4];
        if client.read_exact(&mut question).await.is_ok() {
            let _ = client.write_all(b"200 hello\n").await;
        }
    }
}

async fn inject(
    listener: TcpListener,
    behind: SocketAddr,
    script: &'static [Fault],
    otherwise: Fault,
    count: Arc<AtomicUsize>,
) {
    let mut hanging = Vec::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let fault = script.get(number).copied().unwrap_or(otherwise);
        let mut question = [0; 4];
        match fault {
            Fault::Drop => continue,
            Fault::Hang => {
                hanging.push(client);
                continue;
            }
            _ => {}
        }
        if client.read_exact(&mut question).await.is_err() {
            continue;
        }
        let answer = match fault {
            Fault::Cut => "20".to_owned(),
            Fault::Busy(after) => format!("503 {after}\n"),
            Fault::Refuse => "400 no\n".to_owned(),
            _ => {
                let mut upstream = TcpStream::connect(behind).await.unwrap();
                upstream.write_all(&question).await.unwrap();
                let mut answer = String::new();
                upstream.read_to_string(&mut answer).await.unwrap();
                answer
            }
        };
        let _ = client.write_all(answer.as_bytes()).await;
    }
}

async fn ask(address: SocketAddr) -> Result<String, Error> {
    let lost = |error: io::Error| Error::lost(error.to_string(), error);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.map_err(lost)?;
        stream.write_all(b"ask\n").await.map_err(lost)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(lost)?;
        Ok(answer)
    };
    let limit = Duration::from_secs(2);
    let answer = tokio::time::timeout(limit, exchange).await.map_err(|elapsed| {
        Error::timed_out("asking", address.to_string(), limit).because(elapsed)
    })??;
    match answer.trim_end().split_once(' ') {
        Some(("200", text)) if answer.ends_with('\n') => Ok(text.to_owned()),
        Some(("503", after)) => {
            let after = Duration::from_millis(after.parse().unwrap_or(0));
            Err(Error::unavailable("busy", after))
        }
        Some(("400", why)) => Err(Error::invalid("question", why)),
        _ => Err(Error::lost("half an answer", "the end came early")),
    }
}

/// The documented policy, with the delays that errors ask for a hundredth as long.
async fn asked(proxy: &Proxy, policy: RetryPolicy) -> (Result<String, Error>, Vec<Duration>) {
    let waits = std::cell::RefCell::new(Vec::new());
    let nap = |delay: Duration| {
        waits.borrow_mut().push(delay);
        tokio::time::sleep(delay / 100)
    };
    let result = policy.run(nap, || ask(proxy.address)).await;
    (result, waits.into_inner())
}

#[tokio::test]
async fn a_flaky_upstream_succeeds() {
    for script in
        [&[Fault::Drop, Fault::Cut][..], &[Fault::Busy(100)], &[Fault::Hang, Fault::Drop], &[]]
    {
        let proxy = Proxy::start(script, Fault::Pass).await;
        let (result, waits) = asked(&proxy, RetryPolicy::default()).await;
        assert_eq!(result.unwrap(), "hello", "{script:?}");
        assert_eq!((proxy.connections(), waits.len()), (script.len() + 1, script.len()));
    }
}

#[tokio::test]
async fn an_upstream_that_stays_broken_is_asked_three_times() {
    let proxy = Proxy::start(&[], Fault::Drop).await;
    let (result, waits) = asked(&proxy, RetryPolicy::default()).await;
    let error = result.unwrap_err();
    assert_eq!(error.code(), "SB-CONN-LOST");
    assert!(error.to_string().contains("after 2 reconnect attempts"), "{error}");
    assert_eq!(waits, [1, 2].map(Duration::from_secs));
    assert_eq!(error.retry_delay(), Some(Duration::from_secs(4)));
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let proxy = Proxy::start(&[Fault::Refuse], Fault::Pass).await;
    let (result, waits) = asked(&proxy, RetryPolicy::default()).await;
    assert_eq!(result.unwrap_err().code(), "SB-INVALID");
    assert_eq!((proxy.connections(), waits.len()), (1, 0));
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_sent_once() {
    let proxy = Proxy::start(&[Fault::Drop], Fault::Pass).await;
    let (result, _) = asked(&proxy, RetryPolicy::default().for_request(false)).await;
    assert!(result.is_err());
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn the_delay_that_the_upstream_asks_for_wins() {
    let proxy = Proxy::start(&[Fault::Busy(7000), Fault::Busy(300)], Fault::Pass).await;
    let (result, waits) = asked(&proxy, RetryPolicy::default()).await;
    assert_eq!(result.unwrap(), "hello");
    assert_eq!(waits, [Duration::from_secs(7), Duration::from_millis(300)]);
}

#[tokio::test]
async fn the_total_time_is_bounded() {
    let proxy = Proxy::start(&[], Fault::Busy(200)).await;
    let policy =
        RetryPolicy { attempts: 1000, total: Duration::from_millis(700), ..RetryPolicy::default() };
    let began = Instant::now();
    let result = policy.run(tokio::time::sleep, || ask(proxy.address)).await;
    assert!(result.is_err());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!((1..=4).contains(&proxy.connections()), "{}", proxy.connections());
}

#[tokio::test]
async fn a_cancel_is_prompt() {
    let proxy = Proxy::start(&[], Fault::Busy(60_000)).await;
    let began = Instant::now();
    let policy = RetryPolicy::default();
    let endless = policy.run(tokio::time::sleep, || ask(proxy.address));
    assert!(tokio::time::timeout(Duration::from_secs(1), endless).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_broken_upstream_is_left_alone_and_a_well_one_is_not() {
    let broken = Proxy::start(&[Fault::Drop; 3], Fault::Pass).await;
    let well = Proxy::start(&[], Fault::Pass).await;
    let rest = Duration::from_secs(2);
    let policy = BreakerPolicy { failures: 3, rest, ..BreakerPolicy::default() };
    let breakers = Breakers::new(policy);
    let call = |proxy: &Proxy| {
        let address = proxy.address;
        let breakers = &breakers;
        async move { breakers.run(&address.to_string(), || ask(address)).await }
    };
    for _ in 0..3 {
        assert_eq!(call(&broken).await.unwrap_err().code(), "SB-CONN-LOST");
    }
    for _ in 0..10 {
        assert_eq!(call(&broken).await.unwrap_err().code(), "SB-UNAVAILABLE");
        assert_eq!(call(&well).await.unwrap(), "hello");
    }
    assert_eq!(broken.connections(), 3);
    tokio::time::sleep(rest).await;
    assert_eq!(call(&broken).await.unwrap(), "hello");
    assert_eq!(call(&broken).await.unwrap(), "hello");
}
