//! The daemon inside a sandbox: PID 1, processes, files, terminals.
