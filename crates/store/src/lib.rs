//! Persistent state: sandboxes, API keys, teams.
