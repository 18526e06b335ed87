//! The code of an error that came without one: from its HTTP status or its Connect code.

use crate::Error;

impl Error {
    /// What an HTTP status alone says.
    pub fn code_of_status(status: u16) -> &'static str {
        match status {
            400 | 405 | 406 | 411 | 413..=417 | 422 => "SB-INVALID",
            401 => "SB-AUTH",
            403 => "SB-PERMISSION",
            404 | 410 => "SB-NOT-FOUND",
            409 => "SB-CONFLICT",
            429 | 507 => "SB-LIMIT",
            501 => "SB-NOT-IMPLEMENTED",
            // The gateway's answer for a sandbox that is not there.
            502 => "SB-NOT-FOUND",
            503 => "SB-UNAVAILABLE",
            504 => "SB-NET-TIMEOUT",
            _ => "SB-INTERNAL",
        }
    }

    /// What a code of the Connect protocol says; `None` for a word that is none.
    pub fn code_of_connect(code: &str) -> Option<&'static str> {
        Some(match code {
            "invalid_argument" | "out_of_range" | "failed_precondition" => "SB-INVALID",
            "not_found" => "SB-NOT-FOUND",
            "already_exists" | "aborted" => "SB-CONFLICT",
            "permission_denied" => "SB-PERMISSION",
            "unauthenticated" => "SB-AUTH",
            "resource_exhausted" => "SB-LIMIT",
            "unimplemented" => "SB-NOT-IMPLEMENTED",
            "unavailable" => "SB-UNAVAILABLE",
            "deadline_exceeded" => "SB-NET-TIMEOUT",
            "internal" | "unknown" | "data_loss" | "canceled" => "SB-INTERNAL",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_code_that_is_known() {
        for status in 0..=999 {
            assert!(Error::CODES.contains(&Error::code_of_status(status)), "{status}");
        }
        assert_eq!(Error::code_of_connect("teapot"), None);
    }
}
