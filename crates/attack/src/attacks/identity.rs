//! Keys, tokens and signatures: every route without a right key, and every right key on another's
//! things.

mod links;
mod routes;
mod secrets;

use crate::attack::{Attack, Group::Identity, How};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "identity-wrong-keys",
        group: Identity,
        title: "every route of the API without a key and with nine wrong ones",
        defence: "the key is checked before anything else; routes are taken from the API's own description",
        remains: "",
        how: How::Once(routes::wrong_keys),
    },
    Attack {
        id: "identity-other-team",
        group: Identity,
        title: "every route that names a sandbox or a key, with the key of another team",
        defence: "every query carries the team; what is another's is answered as what is not there",
        remains: "",
        how: How::Once(routes::other_team),
    },
    Attack {
        id: "identity-idempotency-key",
        group: Identity,
        title: "the idempotency key of another team",
        defence: "idempotency keys belong to a team",
        remains: "",
        how: How::Once(routes::idempotency_key),
    },
    Attack {
        id: "identity-revoked-key",
        group: Identity,
        title: "a key that was revoked a second ago",
        defence: "keys are looked up anew after a second at most",
        remains: "",
        how: How::Once(routes::revoked_key),
    },
    Attack {
        id: "identity-named-internals",
        group: Identity,
        title: "a create that names a layer by its path, a runtime, a kernel, another's template",
        defence: "a request names templates alone; unknown fields mean nothing",
        remains: "",
        how: How::Once(routes::named_internals),
    },
    Attack {
        id: "identity-listeners",
        group: Identity,
        title: "sockets that listen beside the one, secrets that others may read",
        defence: "one listener; mode 0600 for what is secret",
        remains: "",
        how: How::Once(secrets::listeners),
    },
    Attack {
        id: "identity-agent-token",
        group: Identity,
        title: "the agent without its token, with a wrong one, and with that of another sandbox",
        defence: "a token per sandbox, derived from a server secret, compared in constant time",
        remains: "ports other than the agent's are public, as in E2B, unless the sandbox was made with private ones",
        how: How::Once(links::agent_token),
    },
    Attack {
        id: "identity-signed-links",
        group: Identity,
        title: "a signed link changed in any part, used for writing, for another sandbox, after its time",
        defence: "the signature covers path, user, operation and expiry",
        remains: "",
        how: How::Once(links::signed_links),
    },
    Attack {
        id: "identity-line-breaks",
        group: Identity,
        title: "line breaks, terminal escapes and markup in metadata, environment, paths and headers",
        defence: "JSON throughout; control characters are escaped in the log",
        remains: "",
        how: How::Once(secrets::line_breaks),
    },
    Attack {
        id: "identity-secrets-inside",
        group: Identity,
        title: "the access token and API keys in environment, command lines, files and logs",
        defence: "the agent keeps its token in memory that nobody inside may read; logs name no secret",
        remains: "",
        how: How::Once(secrets::inside),
    },
    Attack {
        id: "identity-randomness",
        group: Identity,
        title: "the same token, id, machine id or random numbers in two sandboxes of one template",
        defence: "made anew for each sandbox",
        remains: "",
        how: How::Once(secrets::randomness),
    },
];
