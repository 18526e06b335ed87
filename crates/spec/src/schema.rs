//! The JSON Schema of project files, for editors.

use serde_json::{Map, Value, json};
use soulbox_model::network::Domain;

use crate::keys::{Form, Key, Presence, TABLES, Table, tables_in};

/// JSON Schema, draft 2020-12. What it takes may still be refused, where a rule needs more than one
/// value or the machine; what it refuses always is.
pub fn schema() -> Value {
    let tables: Map<String, Value> =
        tables_in(None).map(|table| (table.name.to_owned(), of_table(table))).collect();
    let required: Vec<_> =
        TABLES.iter().filter(|table| table.is_required()).map(|table| table.name).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "soulbox.toml",
        "description": "A SoulBox project.",
        "type": "object",
        "properties": tables,
        "required": required,
        "additionalProperties": false,
    })
}

fn of_table(table: &Table) -> Value {
    let mut value = if table.is_open() {
        let mut value = strings();
        value["additionalProperties"]["pattern"] =
            r"^([^$]|\$\$|\$[A-Za-z0-9_]{1,128}|\$\{(placeholder:)?[A-Za-z0-9_-]{1,128}\})*$"
                .into();
        value
    } else {
        let keys = table.keys.iter().map(|key| (key.name.to_owned(), of_key(key)));
        let tables = tables_in(Some(table.name));
        let tables = tables.map(|table| (table.place().1.to_owned(), of_table(table)));
        let keys: Map<String, Value> = keys.chain(tables).collect();
        json!({ "type": "object", "properties": keys, "additionalProperties": false })
    };
    let required: Vec<_> = table
        .keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    if !required.is_empty() {
        value["required"] = required.into();
    }
    value["description"] = table.about.into();
    value
}

fn of_key(key: &Key) -> Value {
    let mut value = of_form(key.form);
    value["description"] = key.about.into();
    if let Presence::Default(text) = key.presence
        && let Ok(default) = serde_json::from_str::<Value>(text)
    {
        value["default"] = default;
    }
    value
}

fn of_form(form: Form) -> Value {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match form {
        Form::Label => pattern(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        Form::SemVer => pattern(concat!(
            r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)",
            r"(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
        )),
        Form::Text => json!({ "type": "string" }),
        Form::BaseImage => pattern(r"^[A-Za-z0-9._/:@-]{1,512}$"),
        Form::Version => pattern(r"^[0-9]{1,6}(\.[0-9]{1,6}){0,2}$"),
        Form::Strings => strings(),
        Form::Arguments => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Form::Cores => pattern(concat!(
            r"^(0*[1-9][0-9]+m|0*[1-9][0-9]*(\.[0-9]+)?",
            r"|0+\.(0[1-9]|[1-9])[0-9]*)$"
        )),
        Form::Bytes => pattern(r"^[0-9]+(\.[0-9]+)?(B|[KMGT]B|[KMGT]iB)$"),
        // As many of each as are 24 hours.
        Form::Time => pattern(concat!(
            r"^0*(([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)s",
            r"|([1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)m",
            r"|([1-9]|1[0-9]|2[0-4])h|1d)$"
        )),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Ports => json!({
            "type": "array",
            "items": { "type": "integer", "minimum": 1, "maximum": 65535 },
            "uniqueItems": true,
        }),
        Form::Hosts => json!({
            "type": "array",
            "items": { "type": "string", "minLength": 1, "maxLength": 253 },
            "maxItems": Domain::MOST_OF_A_SANDBOX,
            "uniqueItems": true,
        }),
        Form::Destinations => list(r"^[0-9A-Za-z.:/*_-]+$"),
        Form::Ranges => list(r"^[0-9A-Fa-f.:/]+$"),
        Form::Requests => list(r"[A-Za-z*] "),
        Form::Datagrams => list(r"^.+:.+$"),
        Form::Rates => json!({
            "type": "object",
            "additionalProperties": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
        }),
        Form::Amounts => json!({
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": { "sent": of_form(Form::Bytes), "received": of_form(Form::Bytes) },
                "additionalProperties": false,
                "minProperties": 1,
            },
        }),
    }
}

/// An array of different strings.
fn list(pattern: &str) -> Value {
    json!({
        "type": "array",
        "items": { "type": "string", "pattern": pattern },
        "uniqueItems": true,
    })
}

fn strings() -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" },
        "additionalProperties": { "type": "string" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::SMALL;

    #[test]
    fn the_published_schema_is_this_one() {
        let published: Value =
            serde_json::from_str(include_str!("../../../docs/soulbox.schema.json")).unwrap();
        assert_eq!(
            published,
            schema(),
            "write it anew: soulbox config schema > docs/soulbox.schema.json"
        );
    }

    #[test]
    fn defaults_are_those_of_the_parser() {
        let small = crate::Project::parse(SMALL, "x").unwrap();
        let schema = schema();
        let mut seen = 0;
        for table in TABLES {
            for key in table.keys {
                let path =
                    table.name.split('.').fold(&schema, |outer, name| &outer["properties"][name]);
                let default = &path["properties"][key.name]["default"];
                if !default.is_null() && !default.is_object() {
                    let set = format!("{}.{}={default}", table.name, key.name);
                    let set = [crate::Override::set(&set).unwrap()];
                    let project = crate::Project::parse_with(SMALL, "x", &set).unwrap();
                    assert_eq!(project, small, "{}", key.name);
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 14);
    }
}
