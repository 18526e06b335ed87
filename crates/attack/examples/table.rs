//! Prints the table of `SECURITY.md`, with the results of a run if its lines are given on stdin:
//! `soulbox doctor --attack --json | cargo run -p soulbox-attack --example table`.

use std::io::{self, Write as _};

use soulbox_attack::{Finding, markdown};

fn main() -> io::Result<()> {
    let mut broken = Vec::new();
    for line in io::stdin().lines() {
        let line: serde_json::Value = serde_json::from_str(&line?)?;
        if line["result"] == "broken" {
            broken.extend(line["id"].as_str().map(str::to_owned));
        }
    }
    let result = |id: &str| match broken.iter().any(|line| line.starts_with(id)) {
        true => Finding::Broken,
        false => Finding::Held,
    };
    io::stdout().write_all(markdown(result).as_bytes())
}
