//! Names of their own that lead to a port of a sandbox.
//!
//! A name is only worth something once DNS points it at this server, and whose it is there nobody here can
//! check. So the operator lists the domains whose names may be taken, each name leads to one sandbox, and one
//! that a team had is kept for it for a day.

use std::collections::HashMap;

use parking_lot::RwLock;
use soulbox_model::{Error, Port, Result, SandboxId, TeamId, network::Domain};

use crate::core::Core;

/// Where names lead: those of living sandboxes.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<HashMap<String, (SandboxId, Port)>>);

impl Names {
    /// Replaces those of a sandbox, unless it is gone by then.
    pub(crate) fn set(
        &self,
        id: &SandboxId,
        names: &[Domain],
        port: Port,
        lives: impl FnOnce() -> bool,
    ) {
        let mut all = self.0.write();
        all.retain(|_, (holder, _)| holder != id);
        // Asked under the lock: whoever removes it takes its names after that.
        if lives() {
            all.extend(names.iter().map(|name| (name.to_string(), (id.clone(), port))));
        }
    }

    pub(crate) fn forget(&self, id: &SandboxId) {
        if !self.0.read().is_empty() {
            self.0.write().retain(|_, (holder, _)| holder != id);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<(SandboxId, Port)> {
        self.0.read().get(name).cloned()
    }

    /// Those of a sandbox, in order, and the port that they lead to.
    pub(crate) fn of(&self, id: &SandboxId) -> (Vec<String>, Option<Port>) {
        let all = self.0.read();
        let mine = all.iter().filter(|(_, (holder, _))| holder == id);
        let (mut names, mut at) = (Vec::new(), None);
        for (name, (_, port)) in mine {
            names.push(name.clone());
            at = Some(*port);
        }
        names.sort_unstable();
        (names, at)
    }
}

impl Core {
    /// Replaces the names that lead to a port of a sandbox.
    pub(crate) async fn set_domains(
        &self,
        team: TeamId,
        id: &SandboxId,
        to: Option<(Vec<Domain>, Port)>,
    ) -> Result<()> {
        // Without a name, no port is asked for.
        let (mut names, port) = to.unwrap_or((Vec::new(), Port::AGENT));
        names.sort_unstable();
        names.dedup();
        if names.len() > Domain::MOST_OF_A_SANDBOX {
            return Err(Error::ResourceLimit {
                resource: "domains of a sandbox".into(),
                current: names.len() as u64,
                limit: Domain::MOST_OF_A_SANDBOX as u64,
            });
        }
        if port == Port::AGENT && !names.is_empty() {
            return Err(Error::invalid("port", format!("{port} is the sandbox's own")));
        }
        for name in &names {
            self.check_name(name)?;
        }
        let live = self.running(team, id)?;
        if !names.is_empty() {
            live.ports.check_exposed(port).map_err(|e| Error::invalid("port", e.to_string()))?;
        }
        let _turn = live.saving_domains.lock().await;
        if !self.store.set_domains(id, &names, port).await? {
            return Err(Error::not_found("sandbox", id));
        }
        self.names.set(id, &names, port, || self.may_be_named(id));
        Ok(())
    }

    fn may_be_named(&self, id: &SandboxId) -> bool {
        self.registry.get(id).is_some_and(|live| live.is_running())
    }

    fn check_name(&self, name: &Domain) -> Result<()> {
        let own = self.domain.as_deref().map(bare);
        check(name.as_str(), own.as_deref(), &self.custom_domains)
            .map_err(|why| Error::invalid("domains", format!("`{name}` {why}")))
    }

    /// Names of an earlier run whose sandboxes were adopted, as far as the server's settings still allow them.
    pub(crate) async fn restore_domains(&self) -> Result<()> {
        let mut by_sandbox: HashMap<SandboxId, (Port, Vec<Domain>)> = HashMap::new();
        for row in self.store.domains().await? {
            if let Err(error) = self.check_name(&row.name) {
                tracing::warn!(sandbox = %row.sandbox, %error, "a name is not routed any more");
                continue;
            }
            by_sandbox.entry(row.sandbox).or_insert((row.port, Vec::new())).1.push(row.name);
        }
        for (id, (port, names)) in by_sandbox {
            self.names.set(&id, &names, port, || self.may_be_named(&id));
        }
        Ok(())
    }
}

/// `*.Sandbox.Example.com:8443` → `sandbox.example.com`.
fn bare(host: &str) -> String {
    let name = host.trim().trim_start_matches("*.");
    let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Refuses what would take a name away from the server or from the ports of sandboxes.
fn check(name: &str, own: Option<&str>, open: &[Domain]) -> Result<(), &'static str> {
    let below = |domain: &str| {
        name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    let first = name.split(['.', '-']).next().unwrap_or_default();
    let like_a_port = name[first.len()..].starts_with('-')
        && !first.is_empty()
        && first.bytes().all(|b| b.is_ascii_digit());
    if !name.contains('.') || below("localhost") {
        Err("is a name of this machine or network: give one that DNS knows, as in shop.example.com")
    } else if own.is_some_and(below) {
        Err(
            "belongs to this server, whose sandboxes and API have the names below its domain: take \
             one of another domain",
        )
    } else if like_a_port {
        Err("reads like the host of a sandbox's port: let it not begin with digits and a hyphen")
    } else if open.is_empty() {
        Err(
            "cannot be routed: the operator opens domains for names of sandboxes with `soulbox serve \
             --custom-domain`",
        )
    } else if !open.iter().any(|domain| below(domain.as_str())) {
        Err("is in no domain that the operator opened with `soulbox serve --custom-domain`")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_server_are_nobodys() {
        let open = ["example.com", "8080.example.org"].map(|name| name.parse().unwrap());
        let ask = |name: &str| check(name, Some("sandbox.example.com"), &open);
        for good in
            ["shop.example.com", "example.com", "notsandbox.example.com", "8080.example.org"]
        {
            assert_eq!(ask(good), Ok(()), "{good}");
        }
        assert!(check("shop.example.com", None, &[]).is_err());
        for bad in [
            "sandbox.example.com",
            "api.sandbox.example.com",
            "3000-abc.sandbox.example.com",
            "soulbox.corp.example",
            "notexample.com",
            "example.org",
            "localhost",
            "api.localhost",
            "intranet",
            "3000-iabc.other.example",
            "3000-.example",
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
        assert_eq!(bare("*.Sandbox.Example.com.:8443"), "sandbox.example.com");
    }

    #[test]
    fn names_go_with_their_sandbox() {
        let (names, id, other) = (Names::default(), SandboxId::random(), SandboxId::random());
        let port = Port::new(80).unwrap();
        let two = ["a.example", "b.example"].map(|name| name.parse().unwrap());
        names.set(&id, &two, port, || true);
        names.set(&other, &["c.example".parse().unwrap()], port, || true);
        assert_eq!(names.of(&id), (vec!["a.example".into(), "b.example".into()], Some(port)));
        names.set(&id, &two[1..], port, || true);
        assert_eq!(
            (names.get("a.example"), names.get("b.example")),
            (None, Some((id.clone(), port)))
        );
        // It ended meanwhile.
        names.set(&id, &two, port, || false);
        names.forget(&other);
        assert!(names.0.read().is_empty());
    }
}
