use super::*;

#[test]
fn a_servers_error_body_keeps_code_and_words() {
    let failure = Failure::answer(404, br#"{"code":404,"message":"sandbox `x` not found"}"#);
    assert_eq!(failure.code(), "SB-NOT-FOUND");
    assert_eq!(failure.exit_code(), 3);
    assert_eq!(failure.to_string(), "sandbox `x` not found");

    let named = br#"{"code":503,"message":"soon",
        "soulbox":{"code":"SB-CREATE","retryable":true,"retry_after_ms":2500}}"#;
    let named = Failure::answer(503, named);
    assert_eq!(named.code(), "SB-CREATE");
    let after = Some(Duration::from_millis(2500));
    assert_eq!(named.retry(), Retry { worthwhile: true, after });
    let foreign = br#"{"code":429,"message":"no","error_code":"sandbox_capacity"}"#;
    assert_eq!(Failure::answer(429, foreign).code(), "SB-LIMIT");
    let connect = br#"{"code":"unauthenticated","message":"who?"}"#;
    assert_eq!(Failure::answer(401, connect).exit_code(), 4);
}

#[test]
fn a_body_that_is_no_error_still_says_something() {
    let failure = Failure::answer(500, b"");
    assert_eq!(failure.to_string(), "the server answered HTTP 500 without a text");
    assert_eq!(failure.exit_code(), 1);
    let long = vec![b'x'; 5000];
    assert!(Failure::answer(502, &long).to_string().len() < 300);
}

#[test]
fn a_missing_secret_is_to_be_stored() {
    let hint = |message: &str| {
        let body = serde_json::json!({"code": 400, "message": message}).to_string();
        Failure::answer(400, body.as_bytes()).hint().expect("a hint")
    };
    assert!(
        hint("envVars.A: secret `api_key` does not exist").contains("soulbox secret set api_key")
    );
    assert!(!hint("envVars.A: secret `x; rm -rf` does not exist").contains("rm -rf"));
}

#[test]
fn the_cause_is_told_once_and_gives_the_hint() {
    let full = io::Error::from(io::ErrorKind::StorageFull);
    let failure = Failure::from(Error::internal("the database failed", full));
    assert_eq!(failure.to_string(), "internal error: the database failed: no storage space");
    assert!(failure.hint().expect("a hint").contains("free some space"));
}

#[test]
fn every_code_has_its_paragraph_and_every_paragraph_a_code() {
    const PAGE: &str = include_str!("../../../../docs/errors.md");
    let chapter = PAGE.split("\n## ").find(|part| part.starts_with("Every code")).unwrap();
    let paragraphs: Vec<(&str, &str)> =
        chapter.split("### `").skip(1).map(|part| part.split_once('`').unwrap()).collect();
    let mut documented: Vec<_> = paragraphs.iter().map(|(code, _)| *code).collect();
    let mut known: Vec<_> = Error::CODES.into_iter().chain(Failure::CODES).collect();
    documented.sort_unstable();
    known.sort_unstable();
    assert_eq!(documented, known);
    for (code, text) in paragraphs {
        // What happened, why, and what to do.
        assert!(text.matches(['.', ';']).count() >= 3 && text.len() > 120, "{code}: {text}");
    }
}

#[test]
fn every_failure_has_a_code_that_is_known() {
    let id = "x".to_owned();
    let io = || io::Error::from(io::ErrorKind::NotFound);
    for failure in [
        Failure::from(Error::not_found("sandbox", "x")),
        Failure::Unreachable { url: id.clone(), reason: id.clone(), hint: id.clone() },
        Failure::NoServer { data_dir: id.clone() },
        Failure::usage("x"),
        Failure::NotFound { message: id.clone(), hint: None },
        Failure::Io { context: id.clone(), source: io() },
        Failure::Protocol(id.clone()),
        Failure::Environment { message: id.clone(), hint: id.clone() },
        Failure::Install { message: id.clone(), hint: id },
        Failure::from(LoadError::Missing("x".into())),
        Failure::from(LoadError::Unreadable { path: "x".into(), source: io() }),
        Failure::from(LoadError::NotAProjectFile { path: "x".into(), why: "y".into() }),
        Failure::from(LoadError::from(soulbox_spec::Project::parse("", "x").unwrap_err())),
        Failure::CommandTimeout(Duration::ZERO),
        Failure::Interrupted,
        Failure::Exit(1),
    ] {
        let code = failure.code();
        let silent =
            ["SB-INTERRUPTED", "SB-EXIT"].contains(&code) || matches!(failure, Failure::Project(_));
        assert_eq!(failure.hint().is_none(), silent, "{code}: the next step");
        assert!(Error::CODES.contains(&code) || Failure::CODES.contains(&code), "{code}");
    }
}

#[test]
fn exit_codes_are_as_documented() {
    let of = |error: Error| Failure::from(error).exit_code();
    assert_eq!(of(Error::not_found("sandbox", "x")), 3);
    assert_eq!(of(Error::invalid("timeout", "no")), 2);
    assert_eq!(of(Error::Conflict("busy".into())), 1);
    assert_eq!(Failure::NoServer { data_dir: "/x".into() }.exit_code(), 5);
    assert_eq!(Failure::Interrupted.exit_code(), 130);
    assert_eq!(Failure::Exit(42).exit_code(), 42);
}

#[test]
fn every_code_says_what_to_do_next() {
    for code in Error::CODES {
        let (code, message) = (code.to_owned(), String::new());
        let failure = Failure::Answer { status: 500, code, message, retry: Retry::default() };
        assert!(failure.hint().is_some_and(|hint| hint.len() > 10), "{}", failure.code());
    }
}
