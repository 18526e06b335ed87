//! The native engine: Linux namespaces, overlayfs, cgroups, seccomp.
