//! Past the host's proxy, from inside.

use crate::{
    attack::{Outcome, Who, hold},
    field::Field,
};

pub(super) fn steering(field: &Field<'_>, who: Who) -> Outcome {
    let sandbox = field.fresh()?;
    let program = include_str!("../../../programs/steering.py");
    let found = sandbox.finds(program, &[], who)?;
    hold!(found["ours"] == serde_json::json!({}), "possible: {}", found["ours"]);
    hold!(found["reached"] == serde_json::json!([]), "arrived inside: {}", found["reached"]);
    hold!(found["interfaces"] == serde_json::json!(["lo"]), "links: {}", found["interfaces"]);
    let failed = found["failed"].as_object().map_or(0, serde_json::Map::len);
    hold!(failed >= 20, "only {failed} ways were tried");
    // And the refusals go on.
    let reach = include_str!("../../../programs/reach.py");
    let after = sandbox.finds(reach, &["169.254.169.254|80", "10.0.0.1|80"], who)?;
    hold!(after["answered"] == serde_json::json!([]), "answered: {}", after["answered"]);
    hold!(after["refused"] == 2, "{} of 2 connections were refused in words", after["refused"]);
    Ok(format!("{failed} ways, none possible"))
}
