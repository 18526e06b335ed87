//! Which file an error is about, without losing what the kernel said.

use std::{
    io,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
struct At {
    path: PathBuf,
    source: io::Error,
}

/// The error with the path that it happened at; the original stays its source.
pub(crate) fn at(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), At { path: path.to_owned(), source })
}
