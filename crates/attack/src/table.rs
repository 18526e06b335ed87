//! The battery as a table for people.

use std::fmt::Write as _;

use crate::{
    attack::{Finding, How},
    attacks,
};

/// One row per attack: id, what it tries, result, what holds it, what remains.
///
/// `result` says what came of an attack that can be carried out.
pub fn markdown(result: impl Fn(&str) -> Finding) -> String {
    let mut table = String::from(
        "| Line | Attack | Result | What holds it | What remains |\n|---|---|---|---|---|\n",
    );
    for attack in attacks::all() {
        let (result, remains) = match attack.how {
            How::Not(why) => (Finding::Skipped, why),
            How::Once(_) | How::Each(_) => (result(attack.id), attack.remains),
        };
        let result = match result {
            Finding::Held => "held",
            Finding::Broken => "**broken**",
            Finding::Skipped => "skipped",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {result} | {} | {remains} |",
            attack.id, attack.title, attack.defence
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_security_page_has_every_attack_with_its_defence() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../SECURITY.md"))
                .unwrap();
        let table = markdown(|_| Finding::Held);
        let missing: Vec<_> = table.lines().filter(|row| !page.contains(row)).collect();
        assert!(missing.is_empty(), "SECURITY.md lacks:\n{}", missing.join("\n"));
    }
}
