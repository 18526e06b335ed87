//! A team's secrets: kept sealed, given to rules and environments of the same team alone.

mod environment;

use std::collections::BTreeMap;

use soulbox_egress::Held;
use soulbox_model::{
    Error, Result, SecretId, SecretValue, TeamId,
    network::{Egress, Grant, Pattern, Placeholder, SecretName},
};
use soulbox_store::{NewSecret, Secret, SecretChange, SecretRef, Store};

use crate::page;

const METADATA_ENTRIES: usize = 32;
const METADATA_KEY: usize = 128;
const METADATA_VALUE: usize = 1024;
const METADATA_BYTES: usize = 8192;
const HOSTS: usize = 32;
/// Longer tokens of pages were not made here.
const TOKEN_BYTES: usize = 256;

/// The secrets of all teams of a server. Every call names the team that asks.
#[derive(Debug, Clone, Copy)]
pub struct Secrets<'a> {
    store: &'a Store,
}

/// A page of secrets, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPage {
    pub items: Vec<Secret>,
    /// Where the next page starts; `None` on the last.
    pub next: Option<String>,
}

impl<'a> Secrets<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// # Errors
    /// [`Error::InvalidRequest`]; [`Error::Conflict`] for a name that the team has, or too many.
    pub async fn create(&self, team: TeamId, new: NewSecret) -> Result<Secret> {
        check_name(&new.name)?;
        check_metadata(&new.metadata)?;
        check_hosts(&new.hosts)?;
        Ok(self.store.create_secret(team, new).await?)
    }

    /// # Errors
    /// [`Error::InvalidRequest`]; [`Error::NotFound`], also for another team's.
    pub async fn change(&self, team: TeamId, which: &str, change: SecretChange) -> Result<Secret> {
        if let Some(metadata) = &change.metadata {
            check_metadata(metadata)?;
        }
        if let Some(hosts) = &change.hosts {
            check_hosts(hosts)?;
        }
        let changed = self.store.change_secret(team, &reference(which)?, change).await?;
        changed.ok_or_else(|| unknown(which))
    }

    /// # Errors
    /// [`Error::NotFound`], also for another team's.
    pub async fn get(&self, team: TeamId, which: &str) -> Result<Secret> {
        let found = self.store.find_secret(team, &reference(which)?).await?;
        found.ok_or_else(|| unknown(which))
    }

    /// # Errors
    /// [`Error::InvalidRequest`] for a token that is none.
    pub async fn list(&self, team: TeamId, limit: u32, token: Option<&str>) -> Result<SecretPage> {
        let after = token.map(|token| from_token(token).ok_or_else(page::not_ours)).transpose()?;
        let limit = limit.max(1);
        // One more than asked for says whether there is another page.
        let mut items =
            self.store.list_secrets(team, after.as_ref(), limit.saturating_add(1)).await?;
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| to_token(&last.name));
        Ok(SecretPage { items, next })
    }

    /// # Errors
    /// [`Error::NotFound`], also for another team's.
    pub async fn delete(&self, team: TeamId, which: &str) -> Result<()> {
        let deleted = self.store.delete_secret(team, &reference(which)?).await?;
        if deleted { Ok(()) } else { Err(unknown(which)) }
    }

    /// The value and the hosts that may have it; `None` if the team has no such secret.
    ///
    /// # Errors
    /// If it cannot be read or opened.
    pub async fn held(&self, team: TeamId, name: &SecretName) -> Result<Option<Held>> {
        let found = self.store.open_secret(team, &SecretRef::Name(name.clone())).await?;
        Ok(found.map(|(secret, value)| Held { value, hosts: secret.hosts }))
    }

    /// Whether every secret that a policy names is there and may go where the policy sends it.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the secret.
    pub(crate) async fn check_egress(&self, team: TeamId, egress: &Egress) -> Result<()> {
        for (domain, transform) in &egress.transforms {
            let placeholders = transform.headers().values().flat_map(|value| value.placeholders());
            for Placeholder::Secret(name) in placeholders {
                let bad = |why: &str| Error::invalid("rules", format!("secret `{name}` {why}"));
                let found = self.store.open_secret(team, &SecretRef::Name(name.clone())).await?;
                let (secret, value) = found.ok_or_else(|| bad("does not exist"))?;
                if value.as_header().is_none() {
                    return Err(bad(
                        "has a line break or another control character in it, which no header may \
                         have; store it without, as `printf %s` writes it",
                    ));
                }
                if !secret.hosts.is_empty() && !secret.hosts.iter().any(|b| covers(b, domain)) {
                    return Err(bad(&format!("is bound to other hosts than {domain}")));
                }
            }
        }
        Ok(())
    }

    /// An environment with the secrets that it names, or their placeholders, in place of their names;
    /// and what those placeholders are for.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] naming the variable and the secret.
    pub(crate) async fn fill_in(
        &self,
        team: TeamId,
        variables: BTreeMap<String, String>,
    ) -> Result<(BTreeMap<String, String>, Vec<Grant>)> {
        environment::fill_in(self, team, variables).await
    }

    /// For an environment: a secret that is bound to hosts may not go anywhere else.
    async fn for_environment(&self, team: TeamId, name: &SecretName) -> Result<SecretValue> {
        let found = self.store.open_secret(team, &SecretRef::Name(name.clone())).await?;
        match found {
            None => Err(Error::invalid("envVars", format!("secret `{name}` does not exist"))),
            Some((secret, value)) if secret.hosts.is_empty() => Ok(value),
            Some(_) => Err(Error::invalid(
                "envVars",
                format!(
                    "secret `{name}` is bound to hosts and is never put into a sandbox; \
                     `${{placeholder:{name}}}` gives the sandbox a placeholder that works there"
                ),
            )),
        }
    }

    /// For a placeholder: where the value goes. One that is bound to nothing could be sent anywhere.
    async fn bound_to(&self, team: TeamId, name: &SecretName) -> Result<Vec<Pattern>> {
        let found = self.store.find_secret(team, &SecretRef::Name(name.clone())).await?;
        match found {
            None => Err(Error::invalid("envVars", format!("secret `{name}` does not exist"))),
            Some(secret) if secret.hosts.is_empty() => Err(Error::invalid(
                "envVars",
                format!(
                    "secret `{name}` is bound to no host, so its placeholder would work nowhere; \
                     bind it: soulbox secret set {name} --keep-value --host HOST"
                ),
            )),
            Some(secret) => Ok(secret.hosts),
        }
    }
}

/// Where a page ended.
fn to_token(last: &SecretName) -> String {
    page::to_token(&format!("secret.{last}"))
}

fn from_token(token: &str) -> Option<SecretName> {
    let read = |text: &str| text.strip_prefix("secret.")?.parse().ok();
    page::from_token(token, TOKEN_BYTES, read, to_token)
}

fn unknown(which: &str) -> Error {
    Error::not_found("secret", which.chars().take(128).collect::<String>())
}

/// `sec_…` is an id, anything else a name in any case.
fn reference(text: &str) -> Result<SecretRef> {
    let parsed = if text.starts_with(SecretId::PREFIX) {
        text.parse().ok().map(SecretRef::Id)
    } else {
        text.trim().parse().ok().map(SecretRef::Name)
    };
    parsed.ok_or_else(|| unknown(text))
}

fn check_name(name: &SecretName) -> Result<()> {
    if name.as_str().starts_with(SecretId::PREFIX) {
        return Err(Error::invalid("name", "must not begin with sec_, which ids do"));
    }
    Ok(())
}

fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    let bad = |why: String| Err(Error::invalid("metadata", why));
    if metadata.len() > METADATA_ENTRIES {
        return bad(format!("at most {METADATA_ENTRIES} entries fit"));
    }
    if metadata.iter().any(|(k, v)| k.len() > METADATA_KEY || v.len() > METADATA_VALUE) {
        return bad(format!("a key has at most {METADATA_KEY} bytes, a value {METADATA_VALUE}"));
    }
    if metadata.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > METADATA_BYTES {
        return bad(format!("must not exceed {METADATA_BYTES} bytes in all"));
    }
    Ok(())
}

fn check_hosts(hosts: &[Pattern]) -> Result<()> {
    if hosts.len() > HOSTS {
        return Err(Error::invalid("hosts", format!("at most {HOSTS} fit")));
    }
    if hosts.contains(&Pattern::Any) {
        return Err(Error::invalid("hosts", "`*` binds to nothing: leave the list empty for that"));
    }
    Ok(())
}

/// Whether everything that `rule` matches is matched by `bound`.
fn covers(bound: &Pattern, rule: &Pattern) -> bool {
    match (bound, rule) {
        (_, Pattern::Exact(domain)) => bound.matches(domain),
        (Pattern::Below(above), Pattern::Below(domain)) => above == domain || bound.matches(domain),
        (Pattern::Any, _) => true,
        (_, Pattern::Any) | (Pattern::Exact(_), Pattern::Below(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_covers_what_lies_inside_it() {
        for (bound, rule, expected) in [
            ("a.example.com", "a.example.com", true),
            ("a.example.com", "b.example.com", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.a.example.com", "*.example.com", false),
            ("example.com", "*.example.com", false),
            ("*.ple.com", "*.example.com", false),
        ] {
            let covered = covers(&bound.parse().unwrap(), &rule.parse().unwrap());
            assert_eq!(covered, expected, "{bound} {rule}");
        }
    }

    #[test]
    fn ids_and_names_are_told_apart() {
        let id = SecretId::random();
        assert_eq!(reference(id.as_str()).unwrap(), SecretRef::Id(id));
        assert_eq!(reference(" My-KEY ").unwrap(), SecretRef::Name("my-key".parse().unwrap()));
        for nothing in ["", "sec_", "sec_short", "a b", "../x", "ключ"] {
            assert_eq!(reference(nothing).unwrap_err().http_status(), 404, "{nothing}");
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let one = |k: usize, v: usize| BTreeMap::from([("k".repeat(k), "v".repeat(v))]);
        assert!(check_metadata(&one(128, 1024)).is_ok());
        assert!(check_metadata(&one(129, 1)).is_err());
        assert!(check_metadata(&one(1, 1025)).is_err());
        let many = |n: usize, v: usize| (0..n).map(|i| (i.to_string(), "v".repeat(v))).collect();
        assert!(check_metadata(&many(32, 100)).is_ok());
        assert!(check_metadata(&many(33, 1)).is_err());
        assert!(check_metadata(&many(9, 1000)).is_err());
    }
}
