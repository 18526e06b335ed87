use chrono::DateTime;
use proptest::prelude::*;

use super::*;

const TOKEN: &str = "0123456789abcdef";

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn private() -> PortAccess {
    PortAccess::new(Some(TOKEN.into()), None)
}

fn pass(kind: Pass, number: u16) -> String {
    private().pass(kind, port(number), Utc::now() + TimeDelta::minutes(5)).unwrap()
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(uri).header("host", "3000-x.localhost:1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

fn outcome(request: &mut Request<()>) -> Result<bool, Refusal> {
    enter(&private(), port(3000), true, request).map(|entry| matches!(entry, Entry::Passes))
}

fn cookie(value: &str) -> String {
    format!("a=1; {COOKIE_TLS}={value}; b=2")
}

const BROWSER: (&str, &str) = ("sec-fetch-mode", "navigate");

#[test]
fn a_public_port_sees_the_request_as_it_came() {
    let uri = format!("/x?{TRAFFIC_TOKEN}=1");
    let mut request = request(&uri, &[("e2b-traffic-access-token", "1"), ("cookie", &cookie("1"))]);
    let before = (request.uri().clone(), request.headers().clone());
    let entry = enter(&PortAccess::default(), port(3000), true, &mut request);
    assert!(matches!(entry, Ok(Entry::Passes)));
    assert_eq!(before, (request.uri().clone(), request.headers().clone()));
}

#[test]
fn the_header_opens_and_goes_no_further() {
    let uri = format!("/x?a=b&{TRAFFIC_TOKEN}={TOKEN}");
    let given = [("e2b-traffic-access-token", TOKEN), ("cookie", &cookie("1"))];
    let mut opened = request(&uri, &given);
    assert_eq!(outcome(&mut opened), Ok(true));
    assert_eq!(opened.uri(), "/x?a=b");
    assert!(opened.headers().get(TRAFFIC_TOKEN).is_none());
    assert_eq!(opened.headers()[COOKIE], "a=1; b=2");

    for wrong in ["", "0123456789abcdeF", "0123456789abcde", &pass(Pass::Url, 3000)] {
        let mut refused = request("/", &[("e2b-traffic-access-token", wrong)]);
        assert_eq!(outcome(&mut refused), Err(Refusal::Invalid), "{wrong}");
    }
    assert_eq!(outcome(&mut request("/", &[])), Err(Refusal::Missing));
}

#[test]
fn a_browser_trades_the_pass_for_a_cookie() {
    for given in [pass(Pass::Url, 3000), TOKEN.to_owned()] {
        let uri = format!("//evil.example/x?{TRAFFIC_TOKEN}={given}&q=1");
        let mut request = request(&uri, &[BROWSER]);
        let Ok(Entry::Answered(response)) = enter(&private(), port(3000), true, &mut request)
        else {
            panic!("{given}");
        };
        assert_eq!(response.status(), 303);
        assert_eq!(response.headers()["location"], "/evil.example/x?q=1");
        assert_eq!(response.headers()["referrer-policy"], "no-referrer");
        let cookie = response.headers()["set-cookie"].to_str().unwrap();
        let (pair, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Lax; Secure");
        assert!(pair.starts_with("__Host-") && !pair.contains(TOKEN), "{pair}");
        let mut next = self::request("/x?q=1", &[("cookie", pair), BROWSER]);
        assert_eq!(outcome(&mut next), Ok(true));
        assert!(next.headers().get(COOKIE).is_none());
        // Not for another port, nor over another kind of connection, nor as a pass.
        let mut other = self::request("/", &[("cookie", pair)]);
        assert!(matches!(enter(&private(), port(3001), true, &mut other), Err(Refusal::Missing)));
        let mut plain = self::request("/", &[("cookie", pair)]);
        assert!(matches!(enter(&private(), port(3000), false, &mut plain), Err(Refusal::Missing)));
        let (_, value) = pair.split_once('=').unwrap();
        let uri = format!("/?{TRAFFIC_TOKEN}={value}");
        assert_eq!(outcome(&mut self::request(&uri, &[])), Err(Refusal::Invalid));
    }
}

#[test]
fn a_program_goes_straight_in_with_a_pass() {
    let uri = format!("/x?{TRAFFIC_TOKEN}={}", pass(Pass::Url, 3000));
    let mut straight = request(&uri, &[]);
    assert_eq!(outcome(&mut straight), Ok(true));
    assert_eq!(straight.uri(), "/x");
    let upgrade = [BROWSER, ("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(outcome(&mut request(&uri, &upgrade)), Ok(true));
    let mut posted = request(&uri, &[BROWSER]);
    *posted.method_mut() = Method::POST;
    assert_eq!(outcome(&mut posted), Ok(true));

    let ended = private().pass(Pass::Url, port(3000), DateTime::UNIX_EPOCH).unwrap();
    let elsewhere = PortAccess::new(Some("other".into()), None);
    let until = Utc::now() + TimeDelta::minutes(5);
    let foreign = elsewhere.pass(Pass::Url, port(3000), until).unwrap();
    for bad in [ended, foreign, pass(Pass::Url, 3001), pass(Pass::Cookie, 3000), String::new()] {
        let uri = format!("/x?{TRAFFIC_TOKEN}={bad}");
        assert_eq!(outcome(&mut request(&uri, &[BROWSER])), Err(Refusal::Invalid), "{bad}");
    }
}

#[test]
fn a_planted_cookie_neither_opens_nor_shuts_out() {
    let good = pass(Pass::Cookie, 3000);
    let planted = format!("{COOKIE_TLS}=x; {COOKIE_PLAIN}={good}");
    assert_eq!(outcome(&mut request("/", &[("cookie", &planted)])), Err(Refusal::Missing));
    let beside = format!("{COOKIE_TLS}=x; {}", cookie(&good));
    let mut request = request("/", &[("cookie", &beside), ("cookie", "c=3")]);
    assert_eq!(outcome(&mut request), Ok(true));
    assert_eq!(request.headers()[COOKIE], "a=1; b=2; c=3");
}

#[test]
fn a_cookie_is_for_pages_of_the_same_host() {
    let good = cookie(&pass(Pass::Cookie, 3000));
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let here = ("origin", "https://3000-x.localhost:1");
    let sibling = ("origin", "https://3000-y.localhost:1");
    let site = |word| ("sec-fetch-site", word);
    let dest = |word| ("sec-fetch-dest", word);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(&str, Headers<'_>, bool)] = &[
        ("GET", &[], true),
        ("GET", &[here], true),
        ("POST", &[here, site("same-origin")], true),
        ("POST", &[site("same-origin")], true),
        ("POST", &[sibling], false),
        ("GET", &[sibling], false),
        ("GET", &[("origin", "null")], false),
        ("GET", &[("origin", "3000-x.localhost:1")], false),
        ("GET", &[here, sibling], false),
        ("GET", &[site("same-site")], false),
        ("GET", &[site("cross-site"), ("sec-fetch-mode", "no-cors")], false),
        ("GET", &[site("cross-site"), BROWSER, dest("document")], true),
        ("GET", &[site("same-site"), BROWSER, dest("iframe")], false),
        ("POST", &[site("cross-site"), BROWSER, dest("document")], false),
        ("GET", &[upgrade[0], upgrade[1]], false),
        ("GET", &[upgrade[0], upgrade[1], sibling], false),
        ("GET", &[upgrade[0], upgrade[1], here], true),
    ];
    for (method, headers, expected) in cases {
        let mut all = vec![("cookie", good.as_str())];
        all.extend_from_slice(headers);
        let mut asked = request("/", &all);
        *asked.method_mut() = method.parse().unwrap();
        let expected = if *expected { Ok(true) } else { Err(Refusal::OtherOrigin) };
        assert_eq!(outcome(&mut asked), expected, "{method} {headers:?}");
    }
    // Who bears the token itself may come from anywhere.
    let mut bearer = request("/", &[("e2b-traffic-access-token", TOKEN), sibling]);
    assert_eq!(outcome(&mut bearer), Ok(true));
}

proptest! {
    #[test]
    fn nothing_else_of_an_address_changes(
        path in "/[a-z/%.]{0,12}",
        pairs in proptest::collection::vec("[a-z=%+]{0,8}", 0..5),
        at in 0_usize..6,
    ) {
        let mut given = pairs.clone();
        given.insert(at.min(given.len()), format!("{TRAFFIC_TOKEN}={TOKEN}"));
        let uri: Uri = format!("{path}?{}", given.join("&")).parse().unwrap();
        let (pass, rest) = without_pass(&uri);
        prop_assert_eq!(pass.as_deref(), Some(TOKEN));
        let expected = if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) };
        prop_assert_eq!(rest.unwrap().to_string(), expected);
    }

    #[test]
    fn no_header_opens_a_private_port(
        name in "(cookie|origin|e2b-traffic-access-token|authorization|x-access-token)",
        value in "[ -~]{0,80}",
        query in "[a-z0-9&=%.-]{0,60}",
    ) {
        let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return Ok(()) };
        let mut asked = request(&uri.to_string(), &[(name.as_str(), value.as_str())]);
        prop_assert!(outcome(&mut asked).is_err());
    }
}
