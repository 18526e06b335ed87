//! Bodies of the REST control plane, exactly as E2B's clients read and write them.
//!
//! Responses keep every field that a published client requires, also the deprecated ones: the
//! Python models raise on a missing key and some crash on a `null` where they expect absence.
//! Hence the rule for optional response fields: absent when there is nothing to say, `null` only
//! where a field says so. Unknown request fields are ignored, since clients differ by version.
//! Start with [`sandbox`].

pub mod error;
pub mod key;
pub mod network;
pub mod observe;
pub mod sandbox;
pub mod secret;
pub mod soulbox;
pub mod template;

pub use error::{ErrorBody, ErrorDetail};
pub use key::{ApiKey, CreatedApiKey, KeyMask, NewApiKey, Team};
pub use network::{
    EgressProxy, EgressProxyTls, Network, NetworkRule, NetworkTransform, NetworkUpdate,
};
pub use observe::{
    LogEntry, LogLevel, Metric, SandboxLog, SandboxLogs, SandboxLogsV2, SandboxesWithMetrics,
};
pub use sandbox::{
    AutoResume, Connect, ConnectV2, Exposure, Lifecycle, ListedSandbox, NewSandbox, NewSandboxV2,
    OnTimeout, Refresh, Resume, Sandbox, SandboxDetail, SandboxShape, SandboxState, Timeout,
    VolumeMount,
};
pub use secret::{BoundSecret, NewSecret, PutSecret, Secret, SecretUpdate};
pub use soulbox::{
    ByteLimit, DerivedFile, DerivedStep, DerivedTemplate, NetworkDecision, NetworkEvent,
    NetworkUsage, NewPortPass, PortPass, PruneTemplates, PrunedTemplate, RequestRules,
    SandboxDomains, SandboxUsage, ServerStatus, TemplateProgress, TemplateState,
};
pub use template::{BuildStatus, Template, TemplateAlias, TemplateUser};

/// The `clientID` of every sandbox. Old clients append it to the sandbox id, so it must be a
/// piece of a DNS label.
pub const CLIENT_ID: &str = "6532622b";
