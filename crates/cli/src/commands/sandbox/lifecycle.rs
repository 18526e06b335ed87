//! Making, finding and ending sandboxes.

use std::{collections::BTreeMap, future::Future, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use soulbox_model::{SandboxId, network::SecretName};
use soulbox_wire::rest::{Network, NewSandboxV2, Sandbox, SandboxState, TemplateState};

use super::session::Interrupts;
use crate::{
    args::sandbox::{Create, Kill, List},
    client::Server,
    failure::{Failure, Result},
    output::{Output, Tone, bytes, plain},
    progress::Step,
};

const MIB: u64 = 1 << 20;

pub(super) async fn create(server: &Server, output: &Output, args: Create) -> Result<()> {
    let secrets = !(args.secret.is_empty() && args.placeholder.is_empty());
    let env = if secrets {
        let plain = args.env.into_iter().map(|(name, value)| (name, value.replace('$', "$$")));
        let named = references("--secret", "", args.secret)?;
        plain
            .chain(named)
            .chain(references("--placeholder", "placeholder:", args.placeholder)?)
            .collect()
    } else {
        args.env
    };
    let governed = !args.allow_out.is_empty() || !args.deny_out.is_empty();
    let network = (governed || args.private || args.mask_host.is_some()).then(|| Network {
        allow_out: Some(args.allow_out),
        deny_out: Some(args.deny_out),
        allow_public_traffic: Some(!args.private),
        mask_request_host: args.mask_host.map(Into::into),
        ..Network::default()
    });
    let new = NewSandboxV2 {
        network,
        allow_internet_access: args.no_internet.then_some(false),
        template_id: args.template,
        timeout: Some(seconds(args.timeout)?),
        env_vars: Some(env.into_iter().collect()),
        metadata: Some(args.metadata.into_iter().collect()),
        ..NewSandboxV2::default()
    };
    // With a key of its own the request may be repeated when the answer is lost.
    let key = args.idempotency_key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let made = match once(server, output, &new, &key, secrets).await {
        Err(failure) if failure.code() == "SB-UNAVAILABLE" && !args.no_wait => {
            built(server, output, &new.template_id, failure).await?;
            once(server, output, &new, &key, secrets).await?
        }
        made => made?,
    };
    if output.json { output.value(&made) } else { output.line(plain(&made.sandbox_id)) }
}

/// Makes a sandbox, and its template where that has to be built first. After a signal there is none.
pub(in crate::commands) async fn make(
    server: &Server,
    output: &Output,
    new: &NewSandboxV2,
    secrets: bool,
    interrupts: &Interrupts,
) -> Result<Sandbox> {
    let key = uuid::Uuid::new_v4().to_string();
    match or_none(server, output, interrupts, once(server, output, new, &key, secrets)).await {
        Err(failure) if failure.code() == "SB-UNAVAILABLE" => {
            let built = crate::commands::template::ensure(server, output, &new.template_id);
            interrupts.or(built).await?;
            or_none(server, output, interrupts, once(server, output, new, &key, secrets)).await
        }
        made => made,
    }
}

/// A sandbox that is asked for is made even if nobody waits for it any more: it is awaited, and ended. A second
/// signal leaves it to its timeout.
async fn or_none(
    server: &Server,
    output: &Output,
    interrupts: &Interrupts,
    create: impl Future<Output = Result<Sandbox>>,
) -> Result<Sandbox> {
    tokio::pin!(create);
    let code = tokio::select! {
        made = &mut create => return made,
        code = interrupts.clone().next() => code,
    };
    let ending = async {
        if let Ok(made) = create.await
            && let Ok(id) = made.sandbox_id.parse()
        {
            end(server, output, &id).await;
        }
        Ok(())
    };
    interrupts.or(ending).await.ok();
    Err(Failure::Exit(code))
}

/// Ends a sandbox that nobody else knows of. One that stays ends by its timeout.
pub(in crate::commands) async fn end(server: &Server, output: &Output, id: &SandboxId) {
    // Of its own: what ended the work before this is no reason to leave it unfinished.
    let killed = match Interrupts::new() {
        Ok(interrupts) => interrupts.or(server.kill(id)).await,
        Err(_) => server.kill(id).await,
    };
    if let Err(failure) = killed {
        tracing::debug!(%failure, sandbox = %id, "not ended");
        output
            .note(format!("sandbox {id} stays until its timeout, or `soulbox sandbox kill {id}`"));
    }
}

async fn once(
    server: &Server,
    output: &Output,
    new: &NewSandboxV2,
    key: &str,
    secrets: bool,
) -> Result<Sandbox> {
    let _step = Step::spin(output, "creating a sandbox");
    server.create(new, Some(key), secrets).await
}

/// Variables that name secrets, in the words of the server.
fn references(
    flag: &str,
    form: &str,
    variables: Vec<(String, String)>,
) -> Result<Vec<(String, String)>> {
    let reference = |(variable, secret): (String, String)| {
        let secret: SecretName =
            secret.parse().map_err(|why| Failure::usage(format!("{flag}: {why}")))?;
        Ok((variable, format!("${{{form}{secret}}}")))
    };
    variables.into_iter().map(reference).collect()
}

/// Waits for a template that is being built: the first start of a server makes `base`.
async fn built(server: &Server, output: &Output, template: &str, failure: Failure) -> Result<()> {
    let found = match server.template(template).await {
        Ok(found) if found.state == TemplateState::Building => found,
        _ => return Err(failure),
    };
    let ended =
        crate::commands::template::follow(server, output, found, &format!("building {template}"))
            .await?;
    if ended.state == TemplateState::Ready { Ok(()) } else { Err(failure) }
}

pub(in crate::commands) fn seconds(timeout: Duration) -> Result<i32> {
    // What is left of a second counts as one: nobody asks for a sandbox of no time.
    let seconds = timeout.as_millis().div_ceil(1000);
    i32::try_from(seconds).map_err(|_| Failure::usage("--timeout: too long"))
}

pub(super) async fn list(server: &Server, output: &Output, args: List) -> Result<()> {
    let state = args.state.map_or("running,paused", |state| state.as_str());
    let sandboxes = server.list(&args.metadata, state).await?;
    if output.json {
        return output.value(&sandboxes);
    }
    if args.quiet {
        return sandboxes.iter().try_for_each(|sandbox| output.line(plain(&sandbox.sandbox_id)));
    }
    let rows = sandboxes
        .iter()
        .map(|sandbox| {
            vec![
                plain(&sandbox.sandbox_id),
                plain(sandbox.alias.as_deref().unwrap_or(&sandbox.template_id)),
                state_text(sandbox.state).to_owned(),
                ago(sandbox.started_at),
                until(sandbox.end_at),
                pairs(&sandbox.metadata),
            ]
        })
        .collect();
    output.table(&["ID", "TEMPLATE", "STATE", "STARTED", "ENDS", "METADATA"], rows)
}

pub(super) async fn info(server: &Server, output: &Output, id: &SandboxId) -> Result<()> {
    let sandbox = server.get(id).await?;
    if output.json {
        return output.value(&sandbox);
    }
    let template = match &sandbox.alias {
        Some(alias) if *alias != sandbox.template_id => {
            format!("{alias} ({})", sandbox.template_id)
        }
        _ => sandbox.template_id.clone(),
    };
    let rows = [
        ("id", sandbox.sandbox_id.clone()),
        ("template", template),
        ("state", state_text(sandbox.state).to_owned()),
        ("started", format!("{} ({})", sandbox.started_at.to_rfc3339(), ago(sandbox.started_at))),
        ("ends", format!("{} ({})", sandbox.end_at.to_rfc3339(), until(sandbox.end_at))),
        ("cpu", format!("{} cores", sandbox.cpu_count)),
        ("memory", bytes(sandbox.memory_mb * MIB)),
        ("disk", bytes(sandbox.disk_size_mb * MIB)),
        ("agent", sandbox.envd_version.clone()),
        ("domain", sandbox.domain.clone().unwrap_or_default()),
        ("metadata", pairs(&sandbox.metadata)),
    ];
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        output.line(format!(
            "{} {}",
            output.tint(Tone::Quiet, format!("{name:10}")),
            plain(value)
        ))?;
    }
    Ok(())
}

/// How many sandboxes are ended at a time.
const AT_ONCE: usize = 8;

pub(super) async fn kill(server: &Server, output: &Output, args: Kill) -> Result<()> {
    let ids = if args.all {
        let all = server.list(&[], "running,paused").await?;
        all.iter()
            .map(|sandbox| sandbox.sandbox_id.parse())
            .collect::<Result<Vec<SandboxId>, _>>()
            .map_err(|error| Failure::Protocol(error.to_string()))?
    } else {
        args.ids
    };
    let step = Step::count(output, ids.len() as u64, "ending sandboxes");
    let killed: Vec<(SandboxId, Result<bool>)> = stream::iter(ids)
        .map(|id| async {
            let killed = server.kill(&id).await;
            step.advance(1);
            (id, killed)
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    drop(step);
    report(output, killed, args.all)
}

/// Says what became of each; fails with the first that failed.
fn report(output: &Output, killed: Vec<(SandboxId, Result<bool>)>, all: bool) -> Result<()> {
    let mut worst = None;
    let mut list = Vec::new();
    for (id, result) in killed {
        let done = matches!(result, Ok(true));
        if done && !output.json {
            output.line(&id)?;
        }
        list.push(serde_json::json!({ "sandboxID": id, "killed": done }));
        let failure = match result {
            // Somebody else was faster.
            Ok(false) if all => None,
            Ok(false) => Some(soulbox_model::Error::not_found("sandbox", &id).into()),
            Ok(true) => None,
            Err(failure) => Some(failure),
        };
        if let Some(failure) = failure
            && let Some(earlier) = worst.replace(failure)
        {
            output.failure(&earlier);
        }
    }
    if output.json {
        output.value(&list)?;
    }
    worst.map_or(Ok(()), Err)
}

fn state_text(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Running => "running",
        SandboxState::Paused => "paused",
    }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(k, v)| plain(&format!("{k}={v}"))).collect();
    pairs.join(" ")
}

fn ago(time: DateTime<Utc>) -> String {
    format!("{} ago", span((Utc::now() - time).to_std().unwrap_or_default()))
}

fn until(time: DateTime<Utc>) -> String {
    match (time - Utc::now()).to_std() {
        Ok(left) => format!("in {}", span(left)),
        Err(_) => "now".to_owned(),
    }
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_is_not_nothing() {
        assert_eq!(seconds(Duration::from_millis(1)).ok(), Some(1));
        assert_eq!(seconds(Duration::from_secs(300)).ok(), Some(300));
        assert!(seconds(Duration::from_secs(1 << 40)).is_err());
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(120)), "2 min");
        assert_eq!(span(Duration::from_secs(7200)), "2 h");
        assert_eq!(span(Duration::from_secs(172_800)), "2 days");
    }
}
