//! The address of a port, with a pass where it needs one.

use soulbox_control::PortAccess;
use soulbox_model::Port;

use crate::{
    args::sandbox::Url,
    client::Server,
    failure::{Failure, Result},
    output::Output,
};

pub(super) async fn run(server: &Server, output: &Output, args: Url) -> Result<()> {
    let detail = server.get(&args.id).await?;
    let exposed =
        detail.soulbox.map(|own| own.ports.into_iter().filter_map(Port::new).collect::<Vec<_>>());
    if let Err(why) = PortAccess::default().with_exposed(exposed).check_exposed(args.port) {
        return Err(Failure::NotFound {
            message: format!("port {why}"),
            hint: Some(
                "list it in `network.ports` of soulbox.toml, or in `soulbox.ports` of the request, and start anew"
                    .into(),
            ),
        });
    }
    let private = detail.network.is_some_and(|network| network.allow_public_traffic == Some(false));
    let mut url = server.port_url(&args.id, args.port, detail.domain.as_deref());
    let mut expires_at = None;
    if private {
        let seconds = i32::try_from(args.valid.as_secs())
            .map_err(|_| Failure::usage("--valid: at most 24h"))?;
        let made = server.port_pass(&args.id, args.port, seconds).await?;
        url = format!("{url}?{}={}", made.parameter, made.pass);
        expires_at = Some(made.expires_at);
    }
    if output.json {
        output.value(&serde_json::json!({ "url": url, "expires_at": expires_at }))
    } else {
        output.line(url)
    }
}
