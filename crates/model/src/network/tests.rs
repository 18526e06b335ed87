use proptest::prelude::*;

use super::*;

fn egress(internet: bool, allow: &[&str], deny: &[&str]) -> Egress {
    Egress {
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        deny: deny.iter().map(|text| text.parse().unwrap()).collect(),
        ..Egress::of_internet(internet)
    }
}

#[test]
fn destinations_are_addresses_ranges_or_domains() {
    for (text, shown) in [
        ("8.8.8.8", "8.8.8.8"),
        ("8.8.8.8/32", "8.8.8.8"),
        ("8.8.8.9/24", "8.8.8.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("Example.COM.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
        ("localhost", "localhost"),
    ] {
        let destination: Destination = text.parse().unwrap();
        assert_eq!(destination.to_string(), shown);
    }
    let long = "a".repeat(64);
    for bad in [
        "",
        " ",
        ".",
        "a..b",
        "-a.b",
        "a-.b",
        "a b",
        "ex\u{e4}mple.com",
        "example.com:443",
        "a@b",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "1.2.3",
        "127.1",
        "2130706433",
        "0x7f.1",
        "1.2.3.4.5",
        "a.0x7f",
        "*.*.com",
        "a.*.com",
        "**",
        "*.",
        "example.com/8",
        "a\0.b",
        &long,
        "010.0.0.1",
    ] {
        assert!(bad.parse::<Destination>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_wildcard_is_below_its_domain_at_a_label() {
    let below: Pattern = "*.example.com".parse().unwrap();
    for (name, expected) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("example.com", false),
        ("badexample.com", false),
        ("example.com.evil.org", false),
    ] {
        assert_eq!(below.matches(&name.parse().unwrap()), expected, "{name}");
    }
}

#[test]
fn patterns_overlap_where_a_name_matches_both() {
    for (a, b, overlap) in [
        ("a.b", "a.b", true),
        ("a.b", "c.b", false),
        ("a.b", "*.b", true),
        ("*.b", "b", false),
        ("*.a.b", "*.b", true),
        ("*.a.b", "*.c.b", false),
        ("*", "*.c.b", true),
        ("a.b", "*", true),
    ] {
        let [a, b]: [Pattern; 2] = [a, b].map(|text| text.parse().unwrap());
        assert_eq!((a.overlaps(&b), b.overlaps(&a)), (overlap, overlap), "{a} {b}");
    }
}

#[test]
fn domains_are_allowed_only_where_all_else_is_denied() {
    assert!(egress(true, &["example.com"], &[]).check().is_err());
    assert!(egress(true, &["example.com"], &["10.0.0.0/8"]).check().is_err());
    assert!(egress(true, &["example.com"], &["0.0.0.0/0"]).check().is_ok());
    assert!(egress(false, &["example.com"], &[]).check().is_ok());
    assert!(egress(true, &["8.8.8.8"], &[]).check().is_ok());
    let Err(Error::InvalidRequest { field, message }) = egress(true, &["a.b"], &[]).check() else {
        panic!("accepted")
    };
    assert_eq!(field, "allowOut");
    assert!(message.starts_with(
        "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out"
    ));
}

fn transform(value: &str) -> Transform {
    let headers = [("x-a".parse().unwrap(), value.parse().unwrap())];
    Transform::try_from(BTreeMap::from(headers)).unwrap()
}

#[test]
fn the_closest_transform_counts_alone() {
    let mut policy = Egress::default();
    for (pattern, value) in [("*.com", "1"), ("*.example.com", "2"), ("api.example.com", "3")] {
        policy.transforms.insert(pattern.parse().unwrap(), transform(value));
    }
    for (host, value) in [
        ("x.com", Some("1")),
        ("a.example.com", Some("2")),
        ("api.example.com", Some("3")),
        ("x.org", None),
    ] {
        let found = policy.transform(&host.parse().unwrap()).cloned();
        assert_eq!(found, value.map(transform), "{host}");
    }
}

#[test]
fn placeholders_are_found_and_malformed_ones_refused() {
    let value: Template = "Bearer ${e2b.secrets.My_Key}!".parse().unwrap();
    let name: SecretName = "my_key".parse().unwrap();
    assert_eq!(
        value.pieces(),
        [
            Piece::Text("Bearer ".into()),
            Piece::Placeholder(Placeholder::Secret(name)),
            Piece::Text("!".into())
        ]
    );
    assert_eq!("${HOME} $x".parse::<Template>().unwrap().placeholders().count(), 0);
    for bad in [
        "${e2b.secrets.}",
        "${e2b.secrets.a b}",
        "${e2b.secrets.a",
        "${e2b.other.a}",
        "${e2b.identity.tokens.a}",
        "a\r\nx: y",
        "a\0",
    ] {
        assert!(bad.parse::<Template>().is_err(), "{bad:?}");
    }
    assert!("x".repeat(2049).parse::<Template>().is_err());
}

#[test]
fn headers_that_frame_a_message_cannot_be_set() {
    for bad in
        ["Host", "content-length", "Transfer-Encoding", "", "a b", "a:", "é", &"a".repeat(65)]
    {
        assert!(bad.parse::<HeaderName>().is_err(), "{bad:?}");
    }
    let name: HeaderName = "X-Api-Key".parse().unwrap();
    assert_eq!(name.as_str(), "x-api-key");
}

#[test]
fn a_proxy_is_host_and_port_with_bounded_credentials() {
    for good in ["p.example.com:1080", "1.2.3.4:1", "[2001:db8::1]:1080"] {
        assert_eq!(good.parse::<ProxyAddress>().unwrap().to_string(), good);
    }
    for bad in ["", "p", "p:", "p:0", "p:70000", "2001:db8::1:1080", "http://p:1", "a b:1", "u@p:1"]
    {
        assert!(bad.parse::<ProxyAddress>().is_err(), "{bad:?}");
    }
    let new = |user: Option<&str>, password: Option<&str>| {
        let address = "p.example.com:1080".parse().unwrap();
        UpstreamProxy::new(address, user.map(Into::into), password.map(Into::into), None)
    };
    assert!(new(None, Some("x")).is_err());
    assert!(new(Some(&"u".repeat(256)), None).is_err());
    let proxy = new(Some("u"), Some("hunter2")).unwrap();
    assert_eq!(proxy.credentials(), Some(("u", "hunter2")));
    assert!(!format!("{proxy:?}").contains("hunter2"));
}

#[test]
fn what_is_stored_is_read_again() {
    let mut network =
        Network { egress: egress(false, &["a.b", "8.8.8.0/24"], &["::/0"]), ..Network::default() };
    network.egress.transforms.insert("*.a.b".parse().unwrap(), transform("${e2b.secrets.k}"));
    let text = serde_json::to_string(&network).unwrap();
    assert_eq!(serde_json::from_str::<Network>(&text).unwrap(), network);
    let forged = text.replace("8.8.8.0/24", "8.8.8.0/99");
    assert!(serde_json::from_str::<Network>(&forged).is_err());
}

proptest! {
    #[test]
    fn a_range_holds_exactly_what_shares_its_prefix(a: u32, b: u32, prefix in 1_u8..=32) {
        let (a, b) = (Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b));
        let range = Cidr::new(a.into(), prefix).unwrap();
        prop_assert!(range.contains(a.into()));
        let same = (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix);
        prop_assert_eq!(range.contains(b.into()), same);
        prop_assert_eq!(range.to_string().parse::<Cidr>().unwrap(), range);
    }

    #[test]
    fn no_text_makes_a_parser_panic_and_what_parses_stays(text in "\\PC{0,80}") {
        if let Ok(destination) = text.parse::<Destination>() {
            prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
        }
        let _ = text.parse::<Template>();
        let _ = text.parse::<ProxyAddress>();
    }
}
