//! Attacks on what this server does not have yet. Each becomes a real one with its surface.

use crate::attack::{
    Attack,
    Group::{self, Agent, Files, Identity, Kernel, Reuse},
    How,
};

const fn later(id: &'static str, group: Group, title: &'static str, why: &'static str) -> Attack {
    Attack {
        id,
        group,
        title,
        defence: "the surface does not exist",
        remains: "",
        how: How::Not(why),
    }
}

const NO_TEMPLATES: &str =
    "this server takes no uploads of templates, layers or build contexts: the routes answer 501";
const NO_VOLUMES: &str = "this server has no volumes and no snapshots: the routes answer 501";

pub(super) const ATTACKS: &[Attack] = &[
    later(
        "kernel-gvisor",
        Kernel,
        "gVisor's own escapes and the flags of runsc",
        "there is no gVisor engine",
    ),
    later(
        "kernel-kubernetes",
        Kernel,
        "service-account tokens, kubelet, metadata of nodes, hijacked labels",
        "there is no Kubernetes engine",
    ),
    later(
        "files-archives",
        Files,
        "archives that leave their directory, links, devices, bombs",
        NO_TEMPLATES,
    ),
    later(
        "files-layers",
        Files,
        "OCI layers that lie: whiteouts, digests, sizes, foreign URLs",
        NO_TEMPLATES,
    ),
    later("files-build-context", Files, "COPY out of a build context, links in it", NO_TEMPLATES),
    later(
        "files-volumes",
        Files,
        "mount targets through links, names of volumes that are paths",
        NO_VOLUMES,
    ),
    Attack {
        defence: "constant-time comparison",
        ..later(
            "identity-token-timing",
            Identity,
            "a t-test over a million guesses of an access token",
            "takes longer than a battery may; the comparison has a unit test in the agent",
        )
    },
    Attack {
        defence: "the sandbox never holds the value: the host sets it, towards verified hosts alone",
        ..later(
            "identity-granted-secrets",
            Identity,
            "a granted secret in memory, logs, redirects, echoes",
            "needs servers that the sandbox may reach; held by the tests of the network",
        )
    },
    later(
        "identity-audit-log",
        Identity,
        "an audit log changed from inside or by a team",
        "there is no audit log",
    ),
    later(
        "identity-stolen-node",
        Identity,
        "a stolen node key that reads other nodes' sandboxes",
        "there is one node",
    ),
    Attack {
        defence: "one transaction per change; a sweep at every start",
        ..later(
            "agent-interrupted-server",
            Agent,
            "half-written state, and kills of the server between any two steps",
            "needs a server that may be killed; held by the tests of faults",
        )
    },
    later(
        "reuse-snapshots",
        Reuse,
        "forged, cut and foreign snapshots; one random state in two clones",
        NO_VOLUMES,
    ),
    later(
        "reuse-quarantine",
        Reuse,
        "a frozen sandbox that still computes or sends",
        "there is no quarantine",
    ),
];
