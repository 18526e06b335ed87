//! Every error of this crate has a code of the platform.

#![allow(clippy::unwrap_used)]

use std::io;

use soulbox_model::Error;
use soulbox_spec::{LoadError, Override, Project, edit, overrides::NotAnOverride};

#[test]
fn every_error_has_a_code_and_keeps_its_words() {
    let set = |text: &str| Override::set(text).unwrap();
    let refuse = |text: &str, over: &str| edit::apply(text, &[set(over)]).unwrap_err();
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let wrong = Project::parse("", "x").unwrap_err();
    for (error, code, words) in [
        (Error::from(NotAnOverride::NoValue("x".into())), "SB-INVALID", "`x` has no `=`"),
        (Override::set("nobody.knows=1").unwrap_err().into(), "SB-INVALID", "no key"),
        (refuse("= [", "project.name=a").into(), "SB-CONFIG", "not TOML"),
        (refuse("project = 1", "project.name=a").into(), "SB-CONFIG", "no table"),
        (edit::EditError::Value("x".into()).into(), "SB-INVALID", "not TOML: x"),
        (LoadError::Missing("x".into()).into(), "SB-NOT-FOUND", "x/soulbox.toml"),
        (LoadError::Unreadable { path: "x".into(), source: denied() }.into(), "SB-INTERNAL", "x"),
        (LoadError::NotAProjectFile { path: "x".into(), why: "y".into() }.into(), "SB-CONFIG", "y"),
        (LoadError::from(wrong).into(), "SB-CONFIG", "soulbox.toml"),
    ] {
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let unreadable = LoadError::Unreadable { path: "x".into(), source: denied() };
    assert!(std::error::Error::source(&Error::from(unreadable)).is_some());
}
