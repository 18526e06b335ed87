//! Tells the service manager how we are, where one listens (sd_notify(3)).

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Sends a state such as `READY=1`. Without `NOTIFY_SOCKET` nobody listens.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<usize> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => {
                SocketAddr::from_pathname(std::ffi::OsString::from_vec(path.as_bytes().into()))?
            }
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager does not listen");
    }
}
