//! Egress proxies that stumble, refuse and die: real ones on loopback.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use soulbox_model::network::Egress;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::Config;

/// What a SOCKS5 server does with one connection; those beyond the script are served.
#[derive(Clone, Copy)]
enum Fault {
    /// Closed before it says anything.
    Drop,
    /// It says that it could not reach the target.
    Refuse,
}

/// A SOCKS5 server that says yes and greets in the target's place; and how often it was asked.
async fn proxy(script: &'static [Fault]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let fault = script.get(count.fetch_add(1, Ordering::SeqCst)).copied();
            if matches!(fault, Some(Fault::Drop)) {
                continue;
            }
            client.read_exact(&mut [0; 3]).await.unwrap();
            client.write_all(&[5, 0]).await.unwrap();
            client.read_exact(&mut [0; 10]).await.unwrap();
            let code = if fault.is_some() { 4 } else { 0 };
            client.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            let _ = client.write_all(b"hello").await;
        }
    });
    (address, asked)
}

fn behind(proxy: SocketAddr) -> Policy {
    let proxy = UpstreamProxy::new(proxy.to_string().parse().unwrap(), None, None, None).unwrap();
    let egress = Egress { proxy: Some(proxy), ..Egress::default() };
    Policy::new(egress, &["127.0.0.0/8".parse().unwrap()])
}

async fn dial_to(policy: &Policy, target: SocketAddr) -> Result<Outside, Undialled> {
    let (service, turns) = (Service::new(Config::default()), Turns::default());
    let (_sender, policy) = watch::channel(Arc::new(policy.clone()));
    let dialler = Dialler { service: &service, turns: &turns, policy: &policy, opened: false };
    dialler.address(target).await.map(|(outside, _)| outside)
}

async fn dial(policy: &Policy) -> Result<Outside, Undialled> {
    dial_to(policy, SocketAddr::from(([127, 0, 0, 1], 9))).await
}

#[tokio::test]
async fn an_egress_proxy_that_stumbles_is_asked_again() {
    let (address, asked) = proxy(&[Fault::Drop, Fault::Drop]).await;
    let mut stream = dial(&behind(address)).await.unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!((&greeting, asked.load(Ordering::SeqCst)), (b"hello", 3));
}

#[tokio::test]
async fn what_an_egress_proxy_says_of_the_target_is_not_asked_again_and_does_not_count() {
    let (address, asked) = proxy(&[Fault::Refuse; 20]).await;
    let policy = behind(address);
    for _ in 0..20 {
        assert!(matches!(dial(&policy).await, Err(Undialled::Failed(_))));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 20);
    assert!(dial(&policy).await.is_ok());
}

#[tokio::test]
async fn a_dead_egress_proxy_fails_fast_until_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let policy = behind(dead);
    for _ in 0..2 {
        assert!(dial(&policy).await.is_err());
    }
    let fastest = fastest(async || {
        let Err(Undialled::Failed(error)) = dial(&policy).await else { panic!() };
        assert!(error.to_string().contains("left alone"), "{error}");
    });
    assert!(fastest.await < Duration::from_millis(50));
    // Another sandbox's way is another matter.
    let (well, _) = proxy(&[]).await;
    assert!(dial(&behind(well)).await.is_ok());
    let back = TcpListener::bind(dead).await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    let accepting = async {
        back.accept().await.unwrap();
    };
    tokio::select! {
        () = accepting => {}
        result = dial(&policy) => panic!("not tried: {result:?}"),
    }
}

#[tokio::test]
async fn a_refusal_by_the_target_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let policy = Policy::new(Egress::default(), &["127.0.0.0/8".parse().unwrap()]);
    let fastest = fastest(async || {
        let refused = dial_to(&policy, target).await;
        assert!(
            matches!(refused, Err(Undialled::Failed(e)) if e.kind() == io::ErrorKind::ConnectionRefused)
        );
    });
    assert!(fastest.await < Duration::from_millis(50));
}

/// Of some tries: a busy machine makes some wait, a pause between attempts makes all.
async fn fastest(what: impl AsyncFn()) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..4 {
        let began = Instant::now();
        what().await;
        fastest = fastest.min(began.elapsed());
    }
    fastest
}
