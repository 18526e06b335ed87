//! What is left of a page: its HTML and how it looks.

use std::path::Path;

use serde::Serialize;
use soulbox_runtime::adapters::Results;

use super::artifacts::fetch;
use crate::{
    client::Remote,
    failure::{Failure, Result},
    output::Output,
};

/// What is kept of the HTML.
const MAX_HTML: usize = 16 << 20;
/// The largest picture.
const MAX_PICTURE: usize = 64 << 20;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[derive(Debug, Default, Serialize)]
pub(super) struct Page {
    /// HTML at the end; absent where nobody asked for it, or it never came so far.
    pub(super) dom: Option<String>,
    dom_truncated: bool,
}

/// Looks whether a picture can be written, before a page is loaded for it.
///
/// # Errors
/// If its directory is none.
pub(super) fn prepare(to: &Path) -> Result<()> {
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let context = Failure::io(to.display().to_string());
    match std::fs::metadata(above) {
        Ok(about) if about.is_dir() => Ok(()),
        Ok(_) => Err(context(std::io::ErrorKind::NotADirectory.into())),
        Err(error) => Err(context(error)),
    }
}

/// Fetches what a page left; a page that failed may have left nothing.
///
/// # Errors
/// If the sandbox does not answer, or the picture is none.
pub(super) async fn results(
    remote: &Remote,
    results: &Results,
    screenshot: Option<&Path>,
    output: &Output,
) -> Result<Page> {
    let mut page = Page::default();
    if let Some(path) = &results.dom
        && let Some((html, cut)) = found(fetch(remote, path, MAX_HTML, output).await)?
    {
        page.dom = Some(String::from_utf8_lossy(&html).into_owned());
        page.dom_truncated = cut;
    }
    if let (Some(path), Some(to)) = (&results.screenshot, screenshot)
        && let Some((picture, cut)) = found(fetch(remote, path, MAX_PICTURE, output).await)?
    {
        if cut || !picture.starts_with(PNG) {
            return Err(Failure::Protocol("a screenshot that is no PNG".into()));
        }
        write(to, &picture).await?;
    }
    Ok(page)
}

fn found<T>(fetched: Result<T>) -> Result<Option<T>> {
    match fetched {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.code() == "SB-NOT-FOUND" => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whole or not at all; in the place of a link, not through it.
async fn write(to: &Path, picture: &[u8]) -> Result<()> {
    let context = || Failure::io(to.display().to_string());
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    let fresh = to.with_file_name(name);
    let written = async {
        tokio::fs::write(&fresh, picture).await?;
        tokio::fs::rename(&fresh, to).await
    };
    let written = written.await;
    if written.is_err() {
        let _ = tokio::fs::remove_file(&fresh).await;
    }
    written.map_err(context())
}
