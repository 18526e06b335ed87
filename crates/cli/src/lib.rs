//! The soulbox command.
