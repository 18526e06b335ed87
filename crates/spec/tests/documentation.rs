//! The documentation has every key, with the default that holds.

use soulbox_spec::{
    Project,
    keys::{Presence, TABLES},
};

const PAGE: &str = include_str!("../../../docs/soulbox-toml.md");

#[test]
fn every_key_is_documented_with_its_default() {
    let mut rows = PAGE.lines().skip_while(|line| !line.starts_with("| Table | Key"));
    for table in TABLES {
        let about = rows.by_ref().find(|row| row.starts_with(&format!("| `[{}]` |", table.name)));
        let mut row =
            about.unwrap_or_else(|| panic!("[{}] is missing, or not in order", table.name));
        for (index, key) in table.keys.iter().enumerate() {
            if index > 0 {
                row = rows.next().unwrap();
            }
            let cells: Vec<_> = row.split(" | ").collect();
            assert!(row.contains(&format!("| `{}` |", key.name)), "`{}` is not in {row}", key.name);
            let without = match key.presence {
                Presence::Required => "an error".to_owned(),
                Presence::Optional => "none".to_owned(),
                Presence::Default(value) => format!("`{value}`"),
            };
            assert_eq!(cells.get(3), Some(&without.as_str()), "{row}");
        }
    }
}

#[test]
fn the_example_is_right() {
    let example = PAGE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    Project::parse(example, "soulbox.toml").unwrap();
}
