//! Secrets where policies and environments name them.

use std::collections::BTreeMap;

use soulbox_control::{Create, NewSecret};
use soulbox_model::{
    Error, SecretValue, TeamId,
    network::{Demands, Egress, Grant, Marker, Network},
};

use crate::world::{World, request};

const VALUE: &str = "s3cr3t-v4lu3";

fn secret(name: &str, hosts: &[&str]) -> NewSecret {
    NewSecret {
        name: name.parse().unwrap(),
        value: SecretValue::new(VALUE.into()).unwrap(),
        metadata: BTreeMap::new(),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
    }
}

fn rule(domain: &str, value: &str) -> Network {
    let json = serde_json::json!({"egress": {
        "internet": true,
        "transforms": [[domain, {"x-key": value}]],
    }});
    serde_json::from_value(json).unwrap()
}

#[track_caller]
fn field(error: &Error) -> String {
    assert!(matches!(error, Error::InvalidRequest { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_value_goes_to_the_hosts_that_it_is_bound_to() {
    let world = World::new().await;
    let (control, team) = (&world.control, world.team);
    let secrets = control.secrets();
    secrets.create(team, secret("bound", &["api.example.com", "*.a.example.com"])).await.unwrap();
    secrets.create(team, secret("free", &[])).await.unwrap();
    let held = async |team, name: &str| {
        control.secrets().held(team, &name.parse().unwrap()).await.unwrap()
    };
    for (name, host) in [
        ("bound", "api.example.com"),
        ("bound", "x.a.example.com"),
        ("free", "anything.example.net"),
    ] {
        let held = held(team, name).await.unwrap();
        assert_eq!(held.value.expose(), VALUE);
        assert!(held.may_go_to(&host.parse().unwrap()), "{name} {host}");
    }
    for host in ["example.com", "a.example.com", "evil-api.example.com", "api.example.com.evil.net"]
    {
        let held = held(team, "bound").await.unwrap();
        assert!(!held.may_go_to(&host.parse().unwrap()), "{host}");
    }
    for (team, name) in [(team, "absent"), (TeamId::random(), "free"), (TeamId::random(), "bound")]
    {
        assert!(held(team, name).await.is_none());
    }
}

#[tokio::test]
async fn a_policy_may_name_secrets_that_are_there_and_may_go_there() {
    let world = World::new().await;
    let (control, team) = (&world.control, world.team);
    control.secrets().create(team, secret("key", &["*.example.com"])).await.unwrap();
    let with = |network: Network| Create { network: Some(network), ..request(60) };

    for (network, told) in [
        (rule("api.example.com", "${e2b.secrets.absent}"), "`absent` does not exist"),
        (rule("api.example.net", "Bearer ${e2b.secrets.key}"), "bound to other hosts"),
        (rule("*.net", "${e2b.secrets.key}"), "bound to other hosts"),
    ] {
        let refused = control.create(team, with(network.clone())).await.unwrap_err();
        let refused = field(&refused);
        assert!(refused.starts_with("network.rules: ") && refused.contains(told), "{refused}");
        assert_eq!(control.alive(), 0);
        let sandbox = control.create(team, request(60)).await.unwrap();
        let refused = control.set_egress(team, &sandbox.id, network.egress, None).await;
        assert!(field(&refused.unwrap_err()).starts_with("rules: "));
        assert_eq!(control.get(team, &sandbox.id).await.unwrap().network, None);
        control.kill(team, &sandbox.id).await.unwrap();
    }
    let network = rule("api.example.com", "Bearer ${e2b.secrets.key}");
    let made = control.create(team, with(network.clone())).await.unwrap();
    assert_eq!(made.network, Some(network));
}

#[tokio::test]
async fn an_environment_is_filled_in_where_that_is_asked_for() {
    let world = World::new().await;
    let (control, team) = (&world.control, world.team);
    control.secrets().create(team, secret("db_pass", &[])).await.unwrap();
    control.secrets().create(team, secret("bound", &["example.com"])).await.unwrap();
    let with = |env_secrets: bool, value: &str| Create {
        env: BTreeMap::from([("V".to_owned(), value.to_owned())]),
        env_secrets,
        ..request(60)
    };
    for (asked, value, expected) in [
        (false, "$DB_PASS $$ ${x} $", "$DB_PASS $$ ${x} $".to_owned()),
        (true, "$DB_PASS", VALUE.to_owned()),
        (true, "u:${db_pass}@h $$5", format!("u:{VALUE}@h $5")),
    ] {
        let made = control.create(team, with(asked, value)).await.unwrap();
        let guest = world.machine.guest(&made.id).unwrap();
        assert_eq!(guest.agent().env["V"], expected, "{value}");
    }
    let before = control.alive();
    for (value, told) in [
        ("$ABSENT", "envVars.V: secret `absent` does not exist"),
        ("$BOUND", "envVars.V: secret `bound` is bound to hosts"),
        ("cost: 5$", "envVars.V: a dollar sign"),
    ] {
        let refused = field(&control.create(team, with(true, value)).await.unwrap_err());
        assert!(refused.starts_with(told), "{refused}");
        assert!(!refused.contains(VALUE));
    }
    assert_eq!(control.alive(), before);
}

#[tokio::test]
async fn a_placeholder_stands_for_a_secret_of_one_sandbox() {
    let mut world = World::new().await;
    let team = world.team;
    for (name, hosts) in [("key", &["*.example.com"][..]), ("free", &[])] {
        world.control.secrets().create(team, secret(name, hosts)).await.unwrap();
    }
    let with = |value: &str| Create {
        env: BTreeMap::from([("V".to_owned(), value.to_owned())]),
        env_secrets: true,
        ..request(60)
    };
    let mut markers = Vec::new();
    for _ in 0..2 {
        let asked = with("Bearer ${placeholder:KEY} ${placeholder:key}");
        let made = world.control.create(team, asked).await.unwrap();
        let guest = world.machine.guest(&made.id).unwrap();
        let value = guest.agent().env["V"].clone();
        assert!(!format!("{:?}", guest.agent()).contains(VALUE));
        assert!(guest.agent().ca_bundle.is_some(), "it has to trust who opens its connections");
        let (one, two) = value.strip_prefix("Bearer ").unwrap().split_once(' ').unwrap();
        assert_eq!(one, two);
        let marker: Marker = one.parse().unwrap();
        assert!(!markers.contains(&marker), "each sandbox has its own");
        markers.push(marker.clone());

        let grants = |network: &Option<Network>| network.as_ref().unwrap().egress.grants.clone();
        let expected = Grant {
            marker,
            secret: "key".parse().unwrap(),
            hosts: vec!["*.example.com".parse().unwrap()],
        };
        assert_eq!(grants(&made.network), std::slice::from_ref(&expected));
        // They belong to the sandbox, not to the rules that its owner may replace.
        world.control.set_egress(team, &made.id, Egress::default(), None).await.unwrap();
        world.control.set_requests(team, &made.id, Demands::default()).await.unwrap();
        world = world.crash().await;
        let found = world.control.get(team, &made.id).await.unwrap();
        assert_eq!(grants(&found.network), [expected]);
    }
    let before = world.control.alive();
    for (value, told) in [
        ("${placeholder:absent}", "envVars.V: secret `absent` does not exist"),
        ("${placeholder:free}", "envVars.V: secret `free` is bound to no host"),
        ("${other:key}", "envVars.V: the name of a secret"),
        (
            "$KEY",
            "envVars.V: secret `key` is bound to hosts and is never put into a sandbox; `${placeh",
        ),
    ] {
        let refused = field(&world.control.create(team, with(value)).await.unwrap_err());
        assert!(refused.starts_with(told), "{refused}");
    }
    assert_eq!(world.control.alive(), before);
}
