//! Templates: what a sandbox's root file system is made of.
