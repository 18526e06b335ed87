//! The control plane over HTTP: routes, authentication, OpenAPI.
