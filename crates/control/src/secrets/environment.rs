//! Secrets in an environment's values, where its owner asked for them: `$NAME` is the value,
//! `${placeholder:NAME}` what stands for it inside.

use std::collections::BTreeMap;

use soulbox_model::{
    Error, Result, TeamId,
    network::{Grant, MAX_GRANTS, Marker, SecretName},
};

use super::Secrets;

const PLACEHOLDER: &str = "placeholder:";

/// Part of a value.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Secret(SecretName),
    Placeholder(SecretName),
}

/// The environment, and what its placeholders are for.
pub(super) async fn fill_in(
    secrets: &Secrets<'_>,
    team: TeamId,
    variables: BTreeMap<String, String>,
) -> Result<(BTreeMap<String, String>, Vec<Grant>)> {
    let mut filled = BTreeMap::new();
    let mut grants = Vec::new();
    for (variable, value) in variables {
        let mut text = String::new();
        let parts = parse(&value).map_err(|why| Error::invalid(at(&variable), why))?;
        for part in parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Secret(name) => {
                    let value = secrets.for_environment(team, &name).await;
                    text.push_str(value.map_err(|error| named(error, &variable))?.expose());
                }
                Part::Placeholder(name) => {
                    let marker = granted(secrets, team, name, &mut grants).await;
                    text.push_str(marker.map_err(|error| named(error, &variable))?.as_str());
                }
            }
        }
        filled.insert(variable, text);
    }
    Ok((filled, grants))
}

/// The placeholder of a secret, the same wherever it stands.
async fn granted(
    secrets: &Secrets<'_>,
    team: TeamId,
    secret: SecretName,
    grants: &mut Vec<Grant>,
) -> Result<Marker> {
    if let Some(known) = grants.iter().find(|known| known.secret == secret) {
        return Ok(known.marker.clone());
    }
    if grants.len() == MAX_GRANTS {
        let message = format!("at most {MAX_GRANTS} secrets of a sandbox have placeholders");
        return Err(Error::invalid("envVars", message));
    }
    let hosts = secrets.bound_to(team, &secret).await?;
    let marker = Marker::random();
    grants.push(Grant { marker: marker.clone(), secret, hosts });
    Ok(marker)
}

fn at(variable: &str) -> String {
    format!("envVars.{}", variable.chars().take(64).collect::<String>())
}

fn named(error: Error, variable: &str) -> Error {
    match error {
        Error::InvalidRequest { message, .. } => Error::invalid(at(variable), message),
        other => other,
    }
}

/// `$NAME` and `${NAME}` are secrets, `${placeholder:NAME}` is a placeholder, `$$` a dollar, and another
/// dollar is a mistake.
fn parse(value: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        parts.push(Part::Text(&rest[..at]));
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            parts.push(Part::Text("$"));
            rest = behind;
        } else if let Some(inside) = after.strip_prefix('{') {
            let (name, behind) = inside.split_once('}').ok_or("`${` lacks its }")?;
            parts.push(match name.strip_prefix(PLACEHOLDER) {
                Some(name) => Part::Placeholder(name.parse()?),
                None => Part::Secret(name.parse()?),
            });
            rest = behind;
        } else {
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let (name, behind) = after.split_at(after.find(word).unwrap_or(after.len()));
            if name.is_empty() {
                return Err("a dollar sign must be `$NAME`, `${NAME}` or `$$`".to_owned());
            }
            parts.push(Part::Secret(name.parse()?));
            rest = behind;
        }
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(name: &str) -> Part<'static> {
        Part::Secret(name.parse().unwrap())
    }

    fn placeholder(name: &str) -> Part<'static> {
        Part::Placeholder(name.parse().unwrap())
    }

    #[test]
    fn names_are_found_and_dollars_are_kept() {
        let text = Part::Text;
        for (value, expected) in [
            ("", vec![]),
            ("plain", vec![text("plain")]),
            ("$KEY", vec![secret("key")]),
            ("$$KEY", vec![text("$"), text("KEY")]),
            ("$$", vec![text("$")]),
            ("$A$B", vec![secret("a"), secret("b")]),
            ("u:$DB_1@h", vec![text("u:"), secret("db_1"), text("@h")]),
            ("${my-key}s", vec![secret("my-key"), text("s")]),
            ("é$A é", vec![text("é"), secret("a"), text(" é")]),
            ("b:${placeholder:My-Key}.", vec![text("b:"), placeholder("my-key"), text(".")]),
        ] {
            assert_eq!(parse(value).unwrap(), expected, "{value}");
        }
        for bad in [
            "$",
            "a$",
            "$ a",
            "${",
            "${a",
            "${}",
            "${a b}",
            "$é",
            "$-",
            "${placeholder:}",
            "${other:a}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn doubled_dollars_give_back_any_text(value in "\\PC{0,40}") {
            let doubled = value.replace('$', "$$");
            let parts = parse(&doubled).unwrap();
            let back: String = parts.iter().map(|part| match part {
                Part::Text(text) => *text,
                Part::Secret(_) | Part::Placeholder(_) => "a secret",
            }).collect();
            prop_assert_eq!(back, value);
        }
    }
}
