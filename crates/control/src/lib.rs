//! The life of a sandbox: create, connect, time out, kill, adopt.
