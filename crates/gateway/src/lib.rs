//! The data plane: routes HTTP into sandboxes.
