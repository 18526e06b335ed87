//! Ways to the host and to services around it, and out past the rules.

mod changes;
mod names;
mod neighbours;
mod places;
mod rules;
mod steering;

use crate::attack::{Attack, Group::Network, How};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "network-metadata",
        group: Network,
        title: "metadata services of clouds in every spelling: octal, hexadecimal, decimal, mapped IPv6, names",
        defence: "special addresses are refused on the host, whatever the rules of a sandbox say",
        remains: "",
        how: How::Each(places::metadata),
    },
    Attack {
        id: "network-host",
        group: Network,
        title: "the host's own addresses, its loopback, the API, gateways, link-local and multicast addresses",
        defence: "a network namespace of its own; the host dials, and neither itself nor what is private",
        remains: "",
        how: How::Each(places::host_addresses),
    },
    Attack {
        id: "network-steering",
        group: Network,
        title: "routes, links, addresses, options and programs that would lead past the host's proxy",
        defence: "no capability over the network; the steering is attached to the namespace from outside",
        remains: "",
        how: How::Each(steering::steering),
    },
    Attack {
        id: "network-neighbours",
        group: Network,
        title: "other sandboxes: forged datagrams, broadcasts, sniffing, router advertisements",
        defence: "each network namespace has no link but its own loopback; no packet sockets",
        remains: "",
        how: How::Once(neighbours::neighbours),
    },
    Attack {
        id: "network-policy",
        group: Network,
        title: "literals, names of others, forged hosts, QUIC, DoT, proxies against a domain policy",
        defence: "one reading of SNI and of the Host of every request, or none; the host dials the name and not the address",
        remains: "inside TLS that is not opened, to an allowed name, requests may be for other hosts of the same server",
        how: How::Each(rules::rules),
    },
    Attack {
        id: "network-names",
        group: Network,
        title: "DNS tunnels: names that carry data, over UDP and TCP, of every kind, to every server",
        defence: "names are judged before anything of them leaves, and asked for anew by the host",
        remains: "below a domain that is allowed, any name may be asked for",
        how: How::Once(names::tunnels),
    },
    Attack {
        id: "network-changes",
        group: Network,
        title: "connections that outlive a change of policy, or come before it",
        defence: "rules are there before the first instruction; flows are held to the rules of now",
        remains: "",
        how: How::Once(changes::changes),
    },
    Attack {
        id: "network-floods",
        group: Network,
        title: "thousands of connections that say a byte at a time, and as many questions as can be asked",
        defence: "flows, questions and bytes of each are bounded per sandbox; the rest waits inside",
        remains: "",
        how: How::Once(neighbours::floods),
    },
];
