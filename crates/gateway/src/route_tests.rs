use http::Request;
use proptest::prelude::*;

use super::*;

const ID: &str = "iabcdefghij0123456789";
const OTHER: &str = "ioooooooooo0123456789";

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn route(parts: &Parts, domain: Option<&str>) -> Result<Route, Misrouted> {
    super::route(parts, domain, |_| None)
}

fn by(domain: Option<&str>, headers: &[(&str, &str)]) -> Result<Route, Misrouted> {
    route(&parts("/", headers), domain)
}

fn sandbox(id: &str, port: u16) -> Result<Route, Misrouted> {
    Ok(Route::Sandbox(Destination {
        name: id.to_owned(),
        id: id.parse().ok(),
        port: Port::new(port).unwrap(),
    }))
}

#[test]
fn names_of_a_sandboxs_own_come_last_and_get_nothing_that_opens_something() {
    let own = Some("sb.example.com");
    // Whatever is asked for is taken.
    let greedy = |_: &str| Some((ID.parse().unwrap(), Port::new(3000).unwrap()));
    let by = |headers: &[(&str, &str)]| super::route(&parts("/", headers), own, greedy);
    let mine = sandbox(ID, 3000);
    assert_eq!(by(&[("host", "Shop.example.org:8443")]), mine);
    assert_eq!(by(&[("host", "shop.example.org"), ("x-api-key", "their-own")]), mine);
    assert_eq!(by(&[("host", "shop.example.org"), ("authorization", "Bearer other")]), mine);
    let port = format!("80-{OTHER}.sb.example.com");
    assert_eq!(by(&[("host", &port)]), sandbox(OTHER, 80));
    let local = format!("80-{OTHER}.localhost");
    assert_eq!(by(&[("host", &local)]), sandbox(OTHER, 80));
    for key in [
        ("x-api-key", "e2b_00"),
        ("authorization", "Bearer e2b_00"),
        ("authorization", "bearer   e2b_00"),
    ] {
        assert_eq!(by(&[("host", "shop.example.org"), key]), Ok(Route::Api), "{key:?}");
    }
    assert_eq!(by(&[("host", "shop.example.org"), ("x-access-token", "any")]), Ok(Route::Api));
    let headers = [("e2b-sandbox-id", OTHER), ("e2b-sandbox-port", "80")];
    let both = [("host", "shop.example.org"), headers[0], headers[1]];
    assert_eq!(by(&both), sandbox(OTHER, 80));
    let files = parts("/files", &[("host", "shop.example.org"), ("x-access-token", "any")]);
    assert_eq!(super::route(&files, own, greedy), Ok(Route::AccessToken("any".into())));
}

#[test]
fn hosts() {
    let host = |domain, host: &str| by(domain, &[("host", host)]);
    let mine = Some("sb.example.com");
    for api in [
        "localhost",
        "localhost:3000",
        "127.0.0.1:3000",
        "[::1]:3000",
        "api.sb.example.com",
        "my-box.lan",
        "3000",
        "box",
        "192-168-1-5.nip.io",
        "10-web.cloud.example.org",
    ] {
        assert_eq!(host(None, api), Ok(Route::Api), "{api}");
        assert_eq!(host(mine, api), Ok(Route::Api), "{api}");
    }
    for ours in ["localhost", "localhost:3000", "sb.example.com", "SB.Example.COM.:443"] {
        assert_eq!(host(mine, &format!("3000-{ID}.{ours}")), sandbox(ID, 3000), "{ours}");
        assert_eq!(host(None, &format!("3000-{ID}.{ours}")), sandbox(ID, 3000), "{ours}");
        assert_eq!(host(mine, &format!("3000-{ID}-6532622b.{ours}")), sandbox(ID, 3000));
    }
    assert_eq!(host(None, &format!("80-{}.x.y", ID.to_uppercase())), sandbox(ID, 80));
    assert_eq!(host(None, "80-short.localhost"), sandbox("short", 80));
    assert_eq!(
        host(mine, &format!("3000-{ID}.evil.org")),
        Err(Misrouted::Domain("sb.example.com".into()))
    );
    for port in ["0", "65536", "080", "99999999999"] {
        assert_eq!(host(None, &format!("{port}-{ID}.localhost")), Err(Misrouted::Port), "{port}");
    }
    assert_eq!(host(None, "80-b_d.localhost"), Err(Misrouted::Id));
    assert_eq!(host(None, "80-.localhost"), Err(Misrouted::Id));
    for bad in [
        "",
        ":80",
        "a b",
        "user@localhost",
        "localhost:80:80",
        "localhost:x",
        "localhost:65536",
        "a..b",
        "[::1",
        "[::1]x",
        "[zz]",
        "local/host",
        "h\u{f6}st",
        "a,b",
        "x%00y",
    ] {
        assert_eq!(host(None, bad), Err(Misrouted::Host), "{bad}");
    }
}

#[test]
fn routing_headers() {
    let headers = |id: &str, port: &str| {
        by(None, &[("host", "box:3000"), ("E2b-Sandbox-Id", id), ("E2b-Sandbox-Port", port)])
    };
    assert_eq!(headers(ID, "49983"), sandbox(ID, 49983));
    assert_eq!(headers(&format!("{ID}-6532622b"), "8080"), sandbox(ID, 8080));
    assert_eq!(headers("unknown1", "8080"), sandbox("unknown1", 8080));
    for port in ["", "0", "-1", "+80", "080", "8 0", "65536", "80,81"] {
        assert_eq!(headers(ID, port), Err(Misrouted::Port), "{port}");
    }
    for id in ["", "-", "A", "i/..", "a b", "a-B", "a-b-c", "a,b", &"a".repeat(64)] {
        assert_eq!(headers(id, "80"), Err(Misrouted::Id), "{id}");
    }
    assert_eq!(
        by(None, &[("host", "x"), ("e2b-sandbox-id", ID)]),
        Err(Misrouted::Missing(SANDBOX_PORT))
    );
    assert_eq!(
        by(None, &[("host", "x"), ("e2b-sandbox-port", "80")]),
        Err(Misrouted::Missing(SANDBOX_ID))
    );
}

#[test]
fn headers_and_host_must_agree() {
    let host = format!("3000-{ID}.localhost:1234");
    let given = |id: &str, port: &str| {
        by(None, &[("host", &host), ("e2b-sandbox-id", id), ("e2b-sandbox-port", port)])
    };
    assert_eq!(given(ID, "3000"), sandbox(ID, 3000));
    assert_eq!(given(ID, "3001"), Err(Misrouted::Conflict));
    assert_eq!(given(OTHER, "3000"), Err(Misrouted::Conflict));
    assert_eq!(given(OTHER, "x"), Err(Misrouted::Port));
}

#[test]
fn what_is_said_twice_is_refused() {
    let twice = |name: &'static str, value: &str| {
        let mut headers = vec![("host", "localhost"), (name, value), (name, value)];
        if name == "host" {
            headers.remove(0);
        }
        by(None, &headers)
    };
    for name in ["host", "e2b-sandbox-id", "e2b-sandbox-port", "e2b-traffic-access-token"] {
        assert_eq!(twice(name, "1"), Err(Misrouted::Duplicate(name.parse().unwrap())), "{name}");
    }
    assert_eq!(twice("x-other", "1"), Ok(Route::Api));
}

#[test]
fn the_request_line_and_the_host_header_must_agree() {
    let both = |uri: &str, host: &str| route(&parts(uri, &[("host", host)]), None);
    let line = format!("http://80-{ID}.localhost/x");
    assert_eq!(both(&line, &format!("80-{ID}.LOCALHOST")), sandbox(ID, 80));
    assert_eq!(both(&line, "localhost"), Err(Misrouted::TwoHosts));
    assert_eq!(route(&parts(&line, &[]), None), sandbox(ID, 80));
    assert_eq!(route(&parts("/", &[]), None), Err(Misrouted::NoHost));
}

#[test]
fn an_old_client_that_marks_api_calls_still_reaches_the_api() {
    let call = |path: &str, port: &str| {
        let headers = [("host", "localhost"), ("e2b-sandbox-id", ID), ("e2b-sandbox-port", port)];
        route(&parts(path, &headers), None)
    };
    assert_eq!(call(&format!("/sandboxes/{ID}/connect"), "49983"), Ok(Route::Api));
    assert_eq!(call("/v2/sandboxes", "49983"), Ok(Route::Api));
    assert_eq!(call("/sandboxesx", "49983"), sandbox(ID, 49983));
    assert_eq!(call("/sandboxes", "3000"), sandbox(ID, 3000));
    let host = format!("49983-{ID}.localhost");
    assert_eq!(route(&parts("/sandboxes", &[("host", &host)]), None), sandbox(ID, 49983));
}

#[test]
fn an_access_token_alone_names_a_sandbox_on_agent_paths() {
    let call =
        |path: &str| route(&parts(path, &[("host", "localhost"), ("x-access-token", "t0")]), None);
    assert_eq!(call("/files?path=/x"), Ok(Route::AccessToken("t0".into())));
    assert_eq!(call("/health"), Ok(Route::AccessToken("t0".into())));
    assert_eq!(call("/process.Process/Start"), Ok(Route::AccessToken("t0".into())));
    assert_eq!(call("/process.Processes"), Ok(Route::Api));
    assert_eq!(call("/sandboxes"), Ok(Route::Api));
    assert_eq!(route(&parts("/health", &[("host", "localhost")]), None), Ok(Route::Api));
}

#[test]
fn domains_are_normalised() {
    assert_eq!(domain_name("*.Sandbox.Example.com:8443").unwrap(), "sandbox.example.com");
    assert_eq!(domain_name(" box. ").unwrap(), "box");
    assert_eq!(domain_name("https://x"), None);
}

proptest! {
    #[test]
    fn no_host_panics_or_names_a_sandbox_that_it_does_not_spell(host in "\\PC{0,80}") {
        if let Ok(value) = HeaderValue::from_str(&host) {
            let mut parts = parts("/", &[]);
            parts.headers.insert(header::HOST, value);
            if let Ok(Route::Sandbox(to)) = route(&parts, None) {
                let spelled = format!("{}-{}", to.port, to.name);
                prop_assert!(host.to_ascii_lowercase().starts_with(&spelled));
            }
        }
    }

    #[test]
    fn every_sandbox_host_parses_back(
        port in 1u16..,
        id in "i[a-z0-9]{20}",
        client in proptest::option::of("[a-z0-9]{1,8}"),
        domain in "[a-z][a-z0-9]{0,10}(\\.[a-z][a-z0-9-]{0,10}[a-z0-9]){0,3}",
        listen in proptest::option::of(1u16..),
    ) {
        let client = client.map(|c| format!("-{c}")).unwrap_or_default();
        let listen = listen.map(|p| format!(":{p}")).unwrap_or_default();
        let host = format!("{port}-{id}{client}.{domain}{listen}");
        prop_assert_eq!(by(None, &[("host", &host)]), sandbox(&id, port));
        prop_assert_eq!(by(Some(&domain), &[("host", &host)]), sandbox(&id, port));
    }

    #[test]
    fn any_two_different_names_conflict(
        host_port in 1u16.., port in 1u16..,
        host_id in "i[ab]{20}", id in "i[ab]{20}",
    ) {
        let host = format!("{host_port}-{host_id}.localhost");
        let port_text = port.to_string();
        let given = by(
            None,
            &[("host", &host), ("e2b-sandbox-id", &id), ("e2b-sandbox-port", &port_text)],
        );
        if (host_port, &host_id) == (port, &id) {
            prop_assert_eq!(given, sandbox(&id, port));
        } else {
            prop_assert_eq!(given, Err(Misrouted::Conflict));
        }
    }
}
