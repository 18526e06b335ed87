//! Before and after a change of the rules.

use std::time::Duration;

use serde_json::{Value, json};

use super::rules::{ALLOWED, SOMEWHERE, offer, offers, request, sandbox};
use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::Field,
    sandbox::Sandbox,
};

/// More than are made ahead, so that some are made on demand.
const NEXT: usize = 12;

fn change(field: &Field<'_>, sandbox: &Sandbox, rules: &Value) -> Result<(), Fault> {
    let path = format!("/sandboxes/{}/network", sandbox.id());
    let answer = field.ask("PUT", &path, Some(&field.ground.key), Some(rules))?;
    if answer.status == 204 {
        return Ok(());
    }
    Err(Fault::failed(format!("changing rules: {} {}", answer.status, answer.text())))
}

pub(super) fn changes(field: &Field<'_>) -> Outcome {
    let nothing = json!({"denyOut": ["0.0.0.0/0"]});
    // From the first moment on.
    let early: Vec<String> =
        std::iter::repeat_n(offer(SOMEWHERE, 80, request("evil.net")), 20).collect();
    for number in 0..NEXT {
        let next = field.fresh_with(json!({"network": nothing}))?;
        let found = offers(&next, &early, Who::User)?;
        let refused = found.iter().filter(|said| *said == "refused").count();
        hold!(refused == early.len(), "sandbox {number}: {found:?}");
        field.kill(&next)?;
    }
    // A connection that says only after the change where it goes.
    let attacker = sandbox(field)?;
    let program = include_str!("../../../programs/begun.py");
    let begun = [SOMEWHERE, ALLOWED];
    let late = attacker.launch(program, &begun, Who::User, Duration::from_secs(60))?;
    attacker.await_file("/tmp/begun", Duration::from_secs(10))?;
    change(field, &attacker, &nothing)?;
    attacker.write("/tmp/changed", b"", Who::User)?;
    let said = late.wait()?;
    hold!(
        said.said() == "\"HTTP/1.1 403\"",
        "a connection from before was led on: {}",
        said.said()
    );
    // Back and forth: what was refused a moment ago is looked up, and refused again.
    let one = [offer(SOMEWHERE, 80, request(ALLOWED))];
    let mut opened = 0;
    for _ in 0..3 {
        change(field, &attacker, &json!({"allowOut": [ALLOWED], "denyOut": ["0.0.0.0/0"]}))?;
        opened += usize::from(offers(&attacker, &one, Who::User)? != ["refused"]);
        change(field, &attacker, &nothing)?;
        let found = offers(&attacker, &one, Who::User)?;
        hold!(found == ["refused"], "allowed after it was denied: {found:?}");
    }
    hold!(opened == 3, "the rules were open {opened} times of 3");
    Ok(format!("{} early connections, one late one, 3 changes back and forth", NEXT * 20))
}
