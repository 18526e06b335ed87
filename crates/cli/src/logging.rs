//! Log lines on stderr; `SOULBOX_LOG` filters them.

use tracing_subscriber::{EnvFilter, fmt};

use crate::args::LogFormat;

/// Installs the subscriber of this process. `default` is the filter when `SOULBOX_LOG` has none.
///
/// # Errors
/// The part of `SOULBOX_LOG` that is no filter.
pub fn install(format: LogFormat, default: &str) -> Result<(), String> {
    let text = std::env::var("SOULBOX_LOG").ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(text.as_deref().unwrap_or(default))
        .map_err(|error| format!("SOULBOX_LOG: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber can only be there in tests of this library.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colour = crate::output::Output::new(false).lively();
            builder.with_ansi(colour).with_target(false).try_init()
        }
    };
    Ok(())
}
