//! Changes a project file and leaves the rest of it, comments included, as it is.

use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike};

use crate::Override;

/// Why a text cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("the file is not TOML: `soulbox config check` says where")]
    NotToml(#[source] Box<toml_edit::TomlError>),
    #[error("the value is not TOML: {0}")]
    Value(String),
    #[error("`{0}` is no table in the file: `soulbox config check` says more")]
    NotATable(String),
}

/// `text` with `overrides` written into it.
///
/// # Errors
/// When the text is not TOML, or has a value where a table belongs. Whether the result is a project is
/// not asked here.
pub fn apply(text: &str, overrides: &[Override]) -> Result<String, EditError> {
    let mut document: DocumentMut =
        text.parse().map_err(|error| EditError::NotToml(Box::new(error)))?;
    for over in overrides {
        let change: DocumentMut = over
            .text
            .parse()
            .map_err(|error: toml_edit::TomlError| EditError::Value(error.message().to_owned()))?;
        merge(document.as_table_mut(), false, change.as_table(), "")?;
    }
    Ok(document.to_string())
}

/// What is new in a table that is `inline`, in one line, is so as well.
fn merge(
    into: &mut dyn TableLike,
    inline: bool,
    change: &Table,
    path: &str,
) -> Result<(), EditError> {
    for (key, item) in change {
        let here = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match item {
            Item::Table(inner) => {
                let fresh = || match inline {
                    true => Item::Value(InlineTable::new().into()),
                    false => Item::Table(Table::new()),
                };
                let place = into.entry(key).or_insert_with(fresh);
                if let Some(table) = place.as_table_mut() {
                    // `a.b = 1` in the change is `[a]` in a file.
                    table.set_implicit(false);
                }
                let inline = place.is_inline_table();
                let Some(table) = place.as_table_like_mut() else {
                    return Err(EditError::NotATable(here));
                };
                merge(table, inline, inner, &here)?;
            }
            Item::Value(value) => match into.get_mut(key).and_then(Item::as_value_mut) {
                Some(old) => put(old, value),
                None => {
                    into.insert(key, Item::Value(value.clone()));
                }
            },
            _ => return Err(EditError::Value(here)),
        }
    }
    Ok(())
}

/// In the place of `old`, with the blanks and the comment around it.
fn put(old: &mut toml_edit::Value, new: &toml_edit::Value) {
    let decor = old.decor().clone();
    *old = new.clone();
    *old.decor_mut() = decor;
}

impl From<EditError> for soulbox_model::Error {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Value(_) => Self::invalid("value", error.to_string()),
            EditError::NotToml(_) | EditError::NotATable(_) => Self::Configuration {
                field: crate::FILE_NAME.into(),
                message: error.to_string(),
                span: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Project, fuzzing::FULL};

    fn edited(text: &str, sets: &[&str]) -> String {
        let sets: Vec<_> = sets.iter().map(|set| Override::set(set).unwrap()).collect();
        apply(text, &sets).unwrap()
    }

    #[test]
    fn nothing_but_the_value_changes() {
        assert_eq!(edited(FULL, &[]), FULL);
        let changed = edited(FULL, &["commands.start=[\"a\"]", "resources.cpu=2"]);
        let hash = edited(FULL, &["commands.start=[\"a\", \"# b\"]"]);
        assert!(hash.contains("start = [\"a\", \"# b\"] # not a shell line\n"), "{hash}");
        let expected =
            FULL.replace("[\"python3\", \"-m\", \"shop\"]", "[\"a\"]").replace("\"500m\"", "\"2\"");
        assert_eq!(changed, expected);
    }

    #[test]
    fn what_is_not_there_is_added_where_it_belongs() {
        let text = "# top\n[project]\nname = \"a\" # why\n";
        let changed =
            edited(text, &["project.version=1.0.0", "network.ports=80", "environment.A=1"]);
        let expected = format!(
            "{text}version = \"1.0.0\"\n\n[network]\nports = [80]\n\n[environment]\nA = \"1\"\n"
        );
        assert_eq!(changed.replace("\n\n", "\n"), expected.replace("\n\n", "\n"));
    }

    #[test]
    fn tables_in_a_line_stay_in_a_line() {
        let changed =
            edited(FULL, &["template.build_args.MODE=debug", "template.build_args.NEW=1"]);
        let project = Project::parse(&changed, "x").unwrap();
        assert_eq!(project.template.build_args["MODE"], "debug");
        assert_eq!(project.template.build_args["NEW"], "1");
        assert!(changed.contains("build_args = {"), "{changed}");
    }

    #[test]
    fn tables_of_tables_in_a_line_stay_in_that_line() {
        let line =
            r#"template = { name = "a", base_image = "base", build_args = { A = "1" } } # why"#;
        let rest = "\n[project]\nname = \"a\"\nversion = \"1.0.0\"\n[commands]\nstart = [\"a\"]\n";
        let changed = edited(&format!("{line}{rest}"), &["template.build_args.A=2"]);
        assert_eq!(changed, format!("{}{rest}", line.replace("\"1\"", "\"2\"")));
        let without = line.replace(r#", build_args = { A = "1" }"#, "");
        let sets = ["template.build_args.B=3", "template.base_image=x"];
        for line in [line, without.as_str()] {
            let changed = edited(&format!("{line}{rest}"), &sets);
            assert!(changed.starts_with("template = {") && changed.ends_with(rest), "{changed}");
            let template = Project::parse(&changed, "x").unwrap().template;
            assert_eq!(template.build_args["B"], "3");
            assert_eq!(template.build_args.contains_key("A"), line.contains('A'));
        }
    }

    #[test]
    fn what_is_no_table_is_not_made_one() {
        let set = [Override::set("template.build_args.A=2").unwrap()];
        for text in ["template = 1", "template = { build_args = \"x\" }", "[[template]]"] {
            assert!(matches!(apply(text, &set), Err(EditError::NotATable(_))), "{text}");
        }
    }
}
