//! The rules of one sandbox, and what they say of a destination.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use soulbox_model::{
    BreakerPolicy, Breakers,
    network::{Cidr, Destination, Domain, Egress, Pattern, UdpRule, UpstreamProxy},
};

use crate::{
    peek::Unnamed,
    special::{Special, special},
    traffic::UsedUp,
};

/// Ranges that the operator opened, beside the rules of a sandbox.
#[derive(Debug, Clone)]
pub struct Policy {
    egress: Egress,
    private: Arc<[Cidr]>,
    proxy: Arc<Breakers>,
}

/// What the rules say of an address alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// Denied, unless it turns out to be a place that is allowed by name.
    ByName,
    Denied(Reason),
}

/// A flow that was let through.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The address that was dialled; beyond a proxy, the one that was asked for.
    pub reached: IpAddr,
    /// The name that was dialled.
    pub name: Option<Domain>,
    /// Whether its requests are looked into.
    pub opened: bool,
    pub proxy: Option<UpstreamProxy>,
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Special(Special),
    /// The server's own machine.
    Own,
    /// A sandbox's own address, which it need not leave to reach.
    Inside,
    /// No rule allows it, and all else is denied.
    NotAllowed,
    /// By a range among the denied.
    Listed(Cidr),
    /// By a name that no rule allows.
    Name(Domain),
    /// Its requests are looked into, and this is none.
    OnlyHttp(Domain),
    /// TLS that does not say where it goes.
    Nameless,
    /// The egress proxy is where no sandbox may go.
    Proxy(IpAddr, Box<Reason>),
    /// At the port of name service, something else.
    OnlyQuestions,
    /// HTTP that does not.
    Unnamed(Unnamed),
    /// HTTP that began where something else was let through.
    LateHttp,
    /// More connections are opened than fit in one sandbox.
    ManyOpened,
    /// A name that no public server knows, or that a resolver must not ask for.
    LocalName,
    /// The rules turn name service off.
    NoNames,
    /// A question for records of a type that nobody needs.
    Records(u16),
    /// It had all the bytes that it may have.
    UsedUp(UsedUp),
    /// Datagrams that no rule lets out.
    NoUdp,
    /// Datagrams where all goes through a proxy.
    ProxiedUdp,
    /// More flows of datagrams than fit in one sandbox.
    ManyFlows,
    /// More flows of datagrams than fit in all sandboxes together.
    CrowdedUdp,
}

impl Reason {
    /// What decided, in a word or two: a rule of the sandbox, or what holds for all of them.
    pub fn rule(&self) -> String {
        let word = match self {
            Self::Special(_) => "special ranges",
            Self::Own => "own machine",
            Self::Inside => "inside",
            Self::NotAllowed
            | Self::Name(_)
            | Self::Nameless
            | Self::Unnamed(_)
            | Self::LateHttp => "default deny",
            Self::ManyOpened => "opened connections",
            Self::OnlyQuestions => "name service",
            Self::Listed(range) => return format!("denyOut {range}"),
            Self::OnlyHttp(_) => "requests",
            Self::LocalName => "local names",
            Self::NoNames => "dnsServers",
            Self::Records(_) => "record types",
            Self::UsedUp(limit) => return format!("bytes {}", limit.destination),
            Self::NoUdp => "udp",
            Self::ProxiedUdp | Self::Proxy(..) => "egressProxy",
            Self::ManyFlows | Self::CrowdedUdp => "udp flows",
        };
        word.to_owned()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Special(kind) => write!(
                f,
                "it is {kind}, which no sandbox may reach unless the operator opens it \
                 (soulbox serve --allow-private-egress)"
            ),
            Self::Own => write!(
                f,
                "it is an address of the machine that hosts this sandbox, which no sandbox may \
                 reach unless the operator opens it (soulbox serve --allow-private-egress)"
            ),
            Self::Inside => f.write_str("it is this sandbox itself"),
            Self::NotAllowed => write!(
                f,
                "this sandbox may only reach what its network rules allow, and none allows this; \
                 add it to allowOut"
            ),
            Self::Listed(range) => {
                write!(f, "denyOut of this sandbox lists {range}; add it to allowOut to except it")
            }
            Self::Name(name) => {
                write!(f, "no rule of this sandbox allows {name}; add it to allowOut")
            }
            Self::OnlyHttp(name) => write!(
                f,
                "a rule of this sandbox looks into requests to {name}, so only HTTP and TLS with its \
                 name (SNI) lead there"
            ),
            Self::Nameless => write!(
                f,
                "this sandbox may only reach hosts that are allowed by name, and this TLS \
                 connection names none (SNI); use the host's name instead of its address"
            ),
            Self::Proxy(address, reason) => {
                write!(f, "all goes through its egressProxy, which is at {address}: {reason}")
            }
            Self::OnlyQuestions => f.write_str(
                "port 53 is name service, which the server answers itself, and this is no question",
            ),
            Self::Unnamed(why) => write!(
                f,
                "this sandbox may only reach hosts that are allowed by name, and this request names \
                 none: {why}"
            ),
            Self::LateHttp => f.write_str(
                "this sandbox may only reach hosts that are allowed by name, and a request came too \
                 late to say its host; send its first line at once, and before the server speaks",
            ),
            Self::ManyOpened => f.write_str(
                "this sandbox has as many connections whose requests are looked into as fit; close \
                 some",
            ),
            Self::LocalName => f.write_str("it is a name of a local network, not of the internet"),
            Self::NoNames => f.write_str("name service is off for this sandbox (dnsServers)"),
            Self::Records(kind) => write!(f, "records of type {kind} are asked for nowhere"),
            Self::UsedUp(limit) => limit.fmt(f),
            Self::NoUdp => {
                f.write_str("no rule of this sandbox lets datagrams go there (requests: udp)")
            }
            Self::ProxiedUdp => {
                f.write_str("this sandbox sends all through its egressProxy, which takes no datagrams")
            }
            Self::ManyFlows => f.write_str(
                "this sandbox has as many flows of datagrams as fit; one ends a minute after its last \
                 datagram",
            ),
            Self::CrowdedUdp => f.write_str(
                "the sandboxes of this server have as many flows of datagrams together as fit; the \
                 idlest of whoever has most give way to new ones",
            ),
        }
    }
}

impl Policy {
    pub fn new(egress: Egress, private: &[Cidr]) -> Self {
        let proxy = Arc::new(Breakers::new(BreakerPolicy::default()));
        Self { egress, private: private.into(), proxy }
    }

    /// Leaves the egress proxy of these rules alone while it is dead. There is none for addresses: what
    /// they answer is for the program, and one sandbox's failures must not shut out another.
    pub(crate) fn proxy(&self) -> &Breakers {
        &self.proxy
    }

    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Whether the operator opened this address.
    pub fn opened(&self, address: IpAddr) -> bool {
        self.private.iter().any(|range| range.contains(address))
    }

    /// Refuses what no rule of a sandbox can allow.
    ///
    /// # Errors
    /// Which kind of address it is.
    pub fn reachable(&self, address: IpAddr) -> Result<(), Reason> {
        match special(address) {
            Some(kind) if !self.opened(address.to_canonical()) => Err(Reason::Special(kind)),
            _ => Ok(()),
        }
    }

    /// What the rules say of an address that a sandbox connects to.
    pub fn address(&self, address: IpAddr) -> Verdict {
        let address = address.to_canonical();
        if let Err(reason) = self.reachable(address) {
            return Verdict::Denied(reason);
        }
        let allowed = self.egress.allow.iter().any(|entry| match entry {
            Destination::Net(range) => range.contains(address),
            Destination::Name(_) => false,
        });
        if allowed {
            return Verdict::Allowed;
        }
        let listed = self.egress.deny.iter().find(|range| range.contains(address));
        match listed {
            _ if self.egress.denies_all() && self.egress.allows_names() => Verdict::ByName,
            Some(range) if !range.is_everything() => Verdict::Denied(Reason::Listed(*range)),
            _ if self.egress.denies_all() => Verdict::Denied(Reason::NotAllowed),
            _ => Verdict::Allowed,
        }
    }

    /// Whether a rule allows this name.
    pub fn name(&self, name: &Domain) -> bool {
        self.egress.allow.iter().any(|entry| match entry {
            Destination::Net(_) => false,
            Destination::Name(pattern) => pattern.matches(name),
        })
    }

    /// The rule by which datagrams may go to an address, which our resolver gave for `names`.
    ///
    /// # Errors
    /// Why they may not.
    pub fn udp(&self, to: SocketAddr, names: &[Domain]) -> Result<&UdpRule, Reason> {
        self.reachable(to.ip())?;
        if self.egress.proxy.is_some() {
            return Err(Reason::ProxiedUdp);
        }
        let allows = |rule: &&UdpRule| {
            rule.port.get() == to.port()
                && match &rule.destination {
                    Destination::Net(range) => range.contains(to.ip()),
                    Destination::Name(Pattern::Any) => true,
                    Destination::Name(pattern) => names.iter().any(|name| pattern.matches(name)),
                }
        };
        self.egress.udp.iter().find(allows).ok_or(Reason::NoUdp)
    }

    /// The rule by which something is allowed.
    pub fn allowing(&self, address: Option<IpAddr>, name: Option<&Domain>) -> String {
        let allows = |entry: &&Destination| match entry {
            Destination::Net(range) => address.is_some_and(|address| range.contains(address)),
            Destination::Name(pattern) => name.is_some_and(|name| pattern.matches(name)),
        };
        let rule = self.egress.allow.iter().find(allows);
        rule.map_or_else(|| "default".to_owned(), |entry| format!("allowOut {entry}"))
    }

    /// Whether a name may be asked for outside.
    ///
    /// # Errors
    /// Why not; nothing of it may leave the host then.
    pub fn resolvable(&self, name: &Domain) -> Result<(), Reason> {
        if self.private.is_empty() && is_local(name) {
            return Err(Reason::LocalName);
        }
        let none = self.egress.dns_servers.as_ref().is_some_and(Vec::is_empty);
        let by_udp = self.sends_datagrams(name);
        if none && (self.egress.allows_names() || by_udp) {
            return Err(Reason::NoNames);
        }
        if self.egress.denies_all() && !self.name(name) && !by_udp && !self.allows_a_family() {
            return Err(Reason::Name(name.clone()));
        }
        Ok(())
    }

    /// Whether every address of a family is allowed, so that any name may have one that is.
    fn allows_a_family(&self) -> bool {
        let whole =
            |entry: &Destination| matches!(entry, Destination::Net(net) if net.prefix() == 0);
        self.egress.allow.iter().any(whole)
    }

    /// Whether a rule lets datagrams go to this name.
    fn sends_datagrams(&self, name: &Domain) -> bool {
        let named = || self.egress.udp.iter().any(|rule| rule.destination.names(name));
        self.egress.proxy.is_none() && named()
    }

    /// Whether a flow that was let through may go on. Where it really goes counts, not where the
    /// sandbox thinks it does.
    pub fn keeps(&self, passed: &Passed) -> bool {
        let by_address = self.address(passed.reached) == Verdict::Allowed;
        let allowed = match &passed.name {
            None => by_address,
            Some(name) => {
                let looked_into = passed.opened || !self.egress.opens(name);
                looked_into && (by_address || self.name(name))
            }
        };
        allowed && self.egress.proxy == passed.proxy
    }
}

/// Names that mean something else in every network: a resolver outside cannot know them, one inside
/// would tell of its network.
fn is_local(name: &Domain) -> bool {
    const LOCAL: &[&str] = &[
        "alt",
        "arpa",
        "corp",
        "home",
        "internal",
        "intranet",
        "invalid",
        "lan",
        "local",
        "localdomain",
        "localhost",
        "onion",
        "private",
        "test",
    ];
    let name = name.as_str();
    match name.rsplit_once('.') {
        None => true,
        Some((_, "arpa")) => !(name.ends_with(".in-addr.arpa") || name.ends_with(".ip6.arpa")),
        Some((_, top)) => LOCAL.contains(&top),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(internet: bool, allow: &[&str], deny: &[&str], private: &[&str]) -> Policy {
        let egress = Egress {
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            deny: deny.iter().map(|text| text.parse().unwrap()).collect(),
            ..Egress::of_internet(internet)
        };
        let private: Vec<Cidr> = private.iter().map(|text| text.parse().unwrap()).collect();
        Policy::new(egress, &private)
    }

    fn says(policy: &Policy, address: &str) -> Verdict {
        policy.address(address.parse().unwrap())
    }

    const NOT_ALLOWED: Verdict = Verdict::Denied(Reason::NotAllowed);

    #[test]
    fn without_rules_the_public_internet_is_open_and_nothing_else() {
        let open = policy(true, &[], &[], &[]);
        assert_eq!(says(&open, "8.8.8.8"), Verdict::Allowed);
        assert_eq!(says(&open, "2606:4700::1111"), Verdict::Allowed);
        for address in ["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254", "::ffff:10.0.0.1"] {
            assert!(
                matches!(says(&open, address), Verdict::Denied(Reason::Special(_))),
                "{address}"
            );
        }
    }

    #[test]
    fn allow_beats_deny_but_not_the_operator() {
        let rules = policy(true, &["8.8.8.0/24", "10.0.0.0/8"], &["0.0.0.0/0"], &[]);
        assert_eq!(says(&rules, "8.8.8.8"), Verdict::Allowed);
        assert_eq!(says(&rules, "1.1.1.1"), NOT_ALLOWED);
        assert_eq!(says(&rules, "2606:4700::1111"), NOT_ALLOWED, "all traffic is of both families");
        assert!(matches!(says(&rules, "10.1.1.1"), Verdict::Denied(Reason::Special(_))));
        let opened = policy(true, &["8.8.8.8"], &["8.8.8.0/24"], &["10.0.0.0/8"]);
        assert_eq!(says(&opened, "10.1.1.1"), Verdict::Allowed);
        assert_eq!(says(&opened, "8.8.8.8"), Verdict::Allowed);
        assert!(matches!(says(&opened, "8.8.8.9"), Verdict::Denied(Reason::Listed(_))));
    }

    #[test]
    fn all_of_ipv6_is_not_all_traffic() {
        let (four, six) = ("8.8.8.8", "2606:4700::1111");
        let rules = policy(true, &["::/0"], &["0.0.0.0/0"], &[]);
        assert_eq!((says(&rules, four), says(&rules, six)), (NOT_ALLOWED, Verdict::Allowed));
        let rules = policy(true, &[], &["::/0"], &[]);
        assert_eq!(says(&rules, four), Verdict::Allowed);
        assert!(matches!(says(&rules, six), Verdict::Denied(Reason::Listed(_))));
        let rules = policy(false, &["0.0.0.0/0"], &[], &[]);
        assert_eq!((says(&rules, four), says(&rules, six)), (Verdict::Allowed, Verdict::Allowed));
    }

    #[test]
    fn ipv4_in_ipv6_is_denied_and_allowed_as_ipv4() {
        for range in ["::ffff:8.8.8.8", "::ffff:8.8.8.0/120", "::ffff:0:0/96"] {
            let denied = policy(true, &[], &[range], &[]);
            for address in ["8.8.8.8", "::ffff:8.8.8.8"] {
                assert!(matches!(says(&denied, address), Verdict::Denied(_)), "{range} {address}");
            }
            assert_eq!(says(&policy(false, &[range], &[], &[]), "8.8.8.8"), Verdict::Allowed);
        }
        let opened = policy(true, &[], &[], &["::ffff:10.0.0.0/104"]);
        assert_eq!(says(&opened, "10.1.1.1"), Verdict::Allowed);
    }

    #[test]
    fn no_internet_leaves_what_is_allowed() {
        let rules = policy(false, &["1.1.1.1", "*.example.com"], &[], &[]);
        assert_eq!(says(&rules, "1.1.1.1"), Verdict::Allowed);
        assert_eq!(says(&rules, "8.8.8.8"), Verdict::ByName);
        assert!(rules.name(&"a.example.com".parse().unwrap()));
        assert!(!rules.name(&"example.com".parse().unwrap()));
        assert_eq!(says(&policy(false, &[], &[], &[]), "8.8.8.8"), NOT_ALLOWED);
    }

    #[test]
    fn only_names_that_may_be_reached_are_asked_for() {
        let rules = policy(false, &["*.example.com"], &[], &[]);
        let asked = |rules: &Policy, name: &str| rules.resolvable(&name.parse().unwrap()).is_ok();
        assert!(asked(&rules, "a.example.com"));
        assert!(!asked(&rules, "secret.evil.com"));
        let open = policy(true, &[], &[], &[]);
        assert!(asked(&open, "example.org") && asked(&open, "34.216.184.93.in-addr.arpa"));
        for local in
            ["metadata.google.internal", "db", "printer.local", "x.cluster.local", "a.home.arpa"]
        {
            assert!(!asked(&open, local), "{local}");
        }
        for all in ["0.0.0.0/0", "::/0"] {
            assert!(asked(&policy(true, &[all], &["0.0.0.0/0"], &[]), "example.org"), "{all}");
        }
        let mut none = policy(false, &["*.example.com"], &[], &[]);
        none.egress.dns_servers = Some(Vec::new());
        assert!(!asked(&none, "a.example.com"));
        let mut datagrams = policy(false, &[], &[], &[]);
        datagrams.egress.udp = vec!["*.time.org:123".parse().unwrap()];
        assert!(asked(&datagrams, "a.time.org") && !asked(&datagrams, "a.example.com"));
        datagrams.egress.dns_servers = Some(Vec::new());
        assert!(!asked(&datagrams, "a.time.org"));
    }

    proptest! {
        #[test]
        fn what_is_special_is_never_reached(bits: u32, allow: bool) {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
            let range = [address.to_string()];
            let listed: Vec<&str> = if allow { vec![range[0].as_str(), "0.0.0.0/0"] } else { vec![] };
            let verdict = policy(true, &listed, &[], &[]).address(address);
            prop_assert_eq!(verdict == Verdict::Allowed, special(address).is_none());
        }

        #[test]
        fn a_listed_address_is_allowed_whatever_is_denied(bits: u32, deny in 0_u8..=32) {
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(bits));
            prop_assume!(special(address).is_none());
            let (one, range) = (address.to_string(), format!("{address}/{deny}"));
            prop_assert_eq!(policy(true, &[&one], &[&range], &[]).address(address), Verdict::Allowed);
            prop_assert_ne!(policy(true, &[], &[&range], &[]).address(address), Verdict::Allowed);
        }
    }
}
