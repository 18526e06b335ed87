//! Times as the database holds them.

use chrono::{DateTime, Utc};

use crate::{Error, Result};

pub(crate) fn from_micros(what: &'static str, micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::Corrupt { what, detail: format!("time {micros}") })
}
