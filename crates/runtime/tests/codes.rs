//! Every error of this crate has a code of the platform.

#![allow(clippy::unwrap_used)]

use std::{io, path::Path};

use soulbox_model::Error;
use soulbox_runtime::{
    adapters::BadOption,
    detect::{DetectError, detect},
};

#[test]
fn every_error_has_a_code_and_its_cause() {
    let missing = detect(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(Error::from(missing).code(), "SB-NOT-FOUND");
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let denied = Error::from(DetectError { path: "x".into(), source });
    assert_eq!(denied.code(), "SB-INTERNAL");
    let cause = std::error::Error::source(&denied).unwrap();
    assert!(cause.to_string().contains("x cannot be looked at"), "{cause}");
    assert_eq!(Error::from(BadOption("no".into())).code(), "SB-INVALID");
}
