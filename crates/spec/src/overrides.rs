//! What the command line and the environment say in the place of the file.

use toml::de::DeTable;

use crate::{
    keys::{self, Form, TABLES},
    suggest,
};

/// One key with another value, as TOML of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// What diagnostics call it: `--set`, or the name of a variable.
    pub origin: String,
    pub(crate) text: String,
}

/// Variables that begin with this and the name of a table are overrides.
const PREFIX: &str = "SOULBOX_";

/// Why an override is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOverride {
    #[error("`{0}` has no `=`: give it as `table.key=value`, as in `resources.memory=1GB`")]
    NoValue(String),
    #[error("`{name}` is no key of a project file{}", near(.suggestion))]
    Unknown { name: String, suggestion: Option<String> },
}

impl From<NotAnOverride> for soulbox_model::Error {
    fn from(error: NotAnOverride) -> Self {
        Self::invalid("--set", error.to_string())
    }
}

fn near(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

impl Override {
    /// From `table.key=value`.
    ///
    /// What the key takes decides how the value is read: where it takes a string, the value may stand
    /// without quotes, and a list of ports or host names may be items with commas between them.
    ///
    /// # Errors
    /// For what names no key. Whether the value does is found when the project is read.
    pub fn set(text: &str) -> Result<Self, NotAnOverride> {
        let shown = |text: &str| text.chars().take(80).collect::<String>();
        let (name, value) =
            text.split_once('=').ok_or_else(|| NotAnOverride::NoValue(shown(text)))?;
        let name = name.trim();
        let unknown = |near: Option<String>| {
            let suggestion = near.filter(|near| near != name);
            NotAnOverride::Unknown { name: shown(name), suggestion }
        };
        let Some((found, rest)) = split(name, ".") else {
            let near = match name.split_once('.') {
                Some((table, rest)) => {
                    suggest::name(table, None).map(|near| format!("{near}.{rest}"))
                }
                None => suggest::name(name, None),
            };
            return Err(unknown(near));
        };
        let table = found.name;
        let (path, form) = if found.is_open() {
            (format!("{table}.{}", quote(rest)), Form::Text)
        } else {
            match rest.split_once('.') {
                Some((key, inner))
                    if found.key(key).is_some_and(|key| key.form == Form::Strings) =>
                {
                    (format!("{table}.{key}.{}", quote(inner)), Form::Text)
                }
                _ => match found.key(rest) {
                    Some(key) => (format!("{table}.{rest}"), key.form),
                    None => {
                        let near = suggest::name(rest, Some(table));
                        let near = near.map(|near| {
                            if near.contains('.') { near } else { format!("{table}.{near}") }
                        });
                        return Err(unknown(near));
                    }
                },
            }
        };
        let value = value_of(form, value);
        Ok(Self { origin: "--set".to_owned(), text: format!("{path} = {value}") })
    }

    /// From the environment: `SOULBOX_RESOURCES_MEMORY=1GB` is `resources.memory=1GB`, and
    /// `SOULBOX_ENVIRONMENT_MODE=fast` is `environment.MODE=fast`. Sorted by name; variables that begin
    /// with no table's name are not ours.
    ///
    /// # Errors
    /// For a variable that begins with a table's name and names no key of it.
    pub fn from_environment(
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<Self>, NotAnOverride> {
        let mut all = Vec::new();
        for (variable, value) in variables {
            let Some((table, rest)) = variable.strip_prefix(PREFIX).and_then(|v| split(v, "_"))
            else {
                continue;
            };
            let path = if table.is_open() {
                format!("{}.{rest}", table.name)
            } else {
                key_path(table, rest).ok_or_else(|| {
                    let near = suggest::name(&rest.to_ascii_lowercase(), Some(table.name));
                    let near = near.map(|near| variable_of(table.name, &near));
                    NotAnOverride::Unknown { name: variable.clone(), suggestion: near }
                })?
            };
            let over = Self::set(&format!("{path}={value}"))?;
            all.push(Self { origin: variable, ..over });
        }
        all.sort_by(|a, b| a.origin.cmp(&b.origin));
        Ok(all)
    }
}

/// The innermost table that `name` begins with, and the rest; `between` is `.`, or `_` in variables, which are in upper
/// case.
fn split<'a>(name: &'a str, between: &str) -> Option<(&'static keys::Table, &'a str)> {
    let begins = |table: &'static keys::Table| {
        let table_name = match between {
            "_" => table.name.to_ascii_uppercase().replace('.', between),
            _ => table.name.to_owned(),
        };
        let rest = name.strip_prefix(&table_name)?.strip_prefix(between)?;
        (!rest.is_empty()).then_some((table, rest))
    };
    TABLES.iter().filter_map(begins).max_by_key(|(table, _)| table.name.len())
}

/// `table.key` or `table.key.inner` for the rest of a variable's name.
fn key_path(table: &keys::Table, rest: &str) -> Option<String> {
    table.keys.iter().find_map(|key| {
        let inner = rest.strip_prefix(&key.name.to_ascii_uppercase())?;
        match inner.strip_prefix('_') {
            Some(inner) if key.form == Form::Strings && !inner.is_empty() => {
                Some(format!("{}.{}.{inner}", table.name, key.name))
            }
            _ if inner.is_empty() => Some(format!("{}.{}", table.name, key.name)),
            _ => None,
        }
    })
}

fn variable_of(table: &str, near: &str) -> String {
    let path = if near.contains('.') { near.to_owned() } else { format!("{table}.{near}") };
    format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "_"))
}

/// The value as TOML.
fn value_of(form: Form, text: &str) -> String {
    let trimmed = text.trim();
    match form {
        // Commas are between its methods.
        Form::Requests if !is_list(form, trimmed) => format!("[{}]", quote(trimmed)),
        Form::Ports | Form::Hosts | Form::Destinations | Form::Ranges | Form::Datagrams
            if !is_list(form, trimmed) =>
        {
            let items = trimmed.split(',').map(str::trim).filter(|item| !item.is_empty());
            let item = |item: &str| match form {
                Form::Ports if item.bytes().all(|b| b.is_ascii_digit()) => item.to_owned(),
                _ => quote(item),
            };
            format!("[{}]", items.map(item).collect::<Vec<_>>().join(", "))
        }
        Form::Flag
        | Form::Strings
        | Form::Arguments
        | Form::Rates
        | Form::Amounts
        | Form::Ports
        | Form::Hosts
        | Form::Destinations
        | Form::Ranges
        | Form::Requests
        | Form::Datagrams => {
            // One that is broken says best itself where, if it cannot begin another line.
            let broken = || trimmed.starts_with(['[', '{']) && !trimmed.contains(['\n', '\r']);
            if is_value(trimmed) || broken() { trimmed.to_owned() } else { quote(trimmed) }
        }
        _ if trimmed.starts_with(['"', '\'']) && is_value(trimmed) => trimmed.to_owned(),
        _ => quote(text),
    }
}

/// Whether `text` is meant as a list of TOML. `[2001:db8::1]:443` is an item.
fn is_list(form: Form, text: &str) -> bool {
    text.starts_with('[') && (form != Form::Datagrams || text.ends_with(']'))
}

/// Whether `text` is one value of TOML and nothing besides, so that it sets no other key.
fn is_value(text: &str) -> bool {
    let line = format!("k = {text}");
    DeTable::parse(&line).is_ok_and(|table| {
        let table = table.get_ref();
        table.len() == 1 && table.get("k").is_some_and(|value| value.span() == (4..line.len()))
    })
}

/// A basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Project, fuzzing::SMALL};

    fn with(overrides: &[Override]) -> Project {
        Project::parse_with(SMALL, "soulbox.toml", overrides).unwrap()
    }

    fn set(texts: &[&str]) -> Project {
        let overrides: Vec<_> = texts.iter().map(|text| Override::set(text).unwrap()).collect();
        with(&overrides)
    }

    #[test]
    fn later_ones_win_and_strings_need_no_quotes() {
        let project = set(&[
            "resources.memory=1GB",
            "resources.memory=2GiB",
            "project.description=a \"b\" # c",
            "network.ports=80, 81",
            "network.domains=a.example",
            "network.allow_internet=false",
            "commands.start=[\"a\", \"b c\"]",
            "environment.A.B=1",
        ][..7]);
        assert_eq!(project.resources.memory_bytes, 2 << 30);
        assert_eq!(project.project.description.as_deref(), Some("a \"b\" # c"));
        assert_eq!(project.network.ports.iter().map(|p| p.get()).collect::<Vec<_>>(), [80, 81]);
        assert!(!project.network.allow_internet);
        assert_eq!(project.commands.start, ["a", "b c"]);
    }

    #[test]
    fn the_environment_sets_keys_and_nothing_else() {
        let variables = [
            ("SOULBOX_RESOURCES_CPU", "500m"),
            ("SOULBOX_ENVIRONMENT_MODE", "5$$"),
            ("SOULBOX_TEMPLATE_BUILD_ARGS_LEVEL", "3"),
            ("SOULBOX_TEMPLATE_PYTHON_VERSION", "3.12"),
            ("SOULBOX_DATA_DIR", "/x"),
            ("RESOURCES_CPU", "nonsense"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let project = with(&Override::from_environment(variables).unwrap());
        assert_eq!(project.resources.cpu_millis, 500);
        assert_eq!(project.environment["MODE"].literal(), Some("5$"));
        assert_eq!(project.template.build_args["LEVEL"], "3");
        assert_eq!(project.template.python_version.unwrap().to_string(), "3.12");
    }

    #[test]
    fn a_table_in_a_table_is_reached_by_its_whole_name() {
        let project = set(&[
            "network.allow_internet=false",
            "network.allow_out=*.example.com, 192.0.2.0/24",
            "network.requests.allow=GET,POST api.example.com/v1/*",
            "network.requests.per_minute={ \"api.example.com\" = 5 }",
            "network.requests.udp=[2001:db8::1]:443,192.0.2.1:123",
        ]);
        let requests = &project.network.requests;
        assert_eq!(project.network.allow_out.len(), 2);
        assert_eq!(requests.requests[0].to_string(), "GET,POST api.example.com/v1/*");
        assert_eq!(requests.rates[0].per_minute, 5);
        assert_eq!(requests.udp.len(), 2);
        let variable = ("SOULBOX_NETWORK_REQUESTS_UDP".to_owned(), "[\"*:9\"]".to_owned());
        let project = with(&Override::from_environment([variable]).unwrap());
        assert_eq!(project.network.requests.udp[0].to_string(), "*:9");
    }

    #[test]
    fn what_names_no_key_says_which_was_near() {
        for (text, says) in [
            ("resources.memory", "has no `=`"),
            ("resources.memroy=1GB", "did you mean `resources.memory`?"),
            ("memory=1GB", "did you mean `resources.memory`?"),
            ("resource.memory=1", "did you mean `resources.memory`?"),
            ("project.cpu=1", "did you mean `resources.cpu`?"),
            ("network.allowOut=x", "did you mean `network.allow_out`?"),
            ("network.per_minute={}", "did you mean `network.requests.per_minute`?"),
            ("network.requests.alow=x", "did you mean `network.requests.allow`?"),
            ("network.requests=x", "`network.requests` is no key"),
        ] {
            assert!(Override::set(text).unwrap_err().to_string().contains(says), "{text}");
        }
        let wrong = [("SOULBOX_RESOURCES_MEMROY".to_owned(), "1".to_owned())];
        let wrong = Override::from_environment(wrong).unwrap_err().to_string();
        assert!(wrong.contains("SOULBOX_RESOURCES_MEMORY"), "{wrong}");
    }

    #[test]
    fn a_value_is_what_toml_says_it_is() {
        let list = |text: &str| set(&[&format!("commands.start={text}")]).commands.start;
        assert_eq!(list("[\"sh\", \"-c\", \"echo # hi\"]"), ["sh", "-c", "echo # hi"]);
        assert_eq!(list("['curl', 'http://a/#b',]"), ["curl", "http://a/#b"]);
        assert_eq!(list("[\n  \"a\", # one\n  \"b\",\n]\n"), ["a", "b"]);
        let variable = ("SOULBOX_COMMANDS_START".to_owned(), "[\"a\", \"#\"]".to_owned());
        assert_eq!(
            with(&Override::from_environment([variable]).unwrap()).commands.start,
            ["a", "#"]
        );
        for (text, value) in [
            ("\"a\" and \"b\"", "\"a\" and \"b\""),
            ("'a' # 'b'", "'a' # 'b'"),
            ("\"a # b\"", "a # b"),
            ("'it''s'", "'it''s'"),
            ("\"", "\""),
            ("\"C:\\q\"", "\"C:\\q\""),
        ] {
            let project = set(&[&format!("project.description={text}")]);
            assert_eq!(project.project.description.as_deref(), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_says_so_where_it_stands() {
        for (text, says) in [
            ("python3 app.py", "[\"python3\", \"app.py\"]"),
            ("[\"a\", b]", "--set:1:"),
            ("\"a\"", "[\"a\"]"),
        ] {
            let over = Override::set(&format!("commands.start={text}")).unwrap();
            let wrong = Project::parse_with(SMALL, "x", &[over]).unwrap_err().render(false);
            assert!(wrong.contains(says), "{text}: {wrong}");
        }
    }

    #[test]
    fn a_value_cannot_set_another_key() {
        let sudo = "\n[security]\nallow_sudo = true";
        for value in ["true", "true\rx = 1 #", "[true]", "\"\"", "'''", "\"\"\"", "{}"] {
            let over = Override::set(&format!("network.allow_internet={value}{sudo}")).unwrap();
            let wrong = Project::parse_with(SMALL, "x", &[over]).unwrap_err();
            assert_eq!(wrong.count(), 1, "{wrong}");
            assert!(wrong.render(false).contains("--set"), "{wrong}");
        }
        for value in ["[\"a\"]", "[\"a\", # \"b\"]", "[\"\"\"a", "[\"a\"]\r"] {
            let over = Override::set(&format!("commands.start={value}{sudo}")).unwrap();
            assert!(Project::parse_with(SMALL, "x", &[over]).is_err(), "{value}");
        }
        for value in ["\"a\"", "'''a", "\"\"\"a", "a"] {
            let project = set(&[&format!("project.description={value}{sudo}")]);
            assert!(!project.security.allow_sudo);
            assert_eq!(project.project.description, Some(format!("{value}{sudo}")));
        }
        let over = Override::set("network.allow_internet=true # x").unwrap();
        assert!(Project::parse_with(SMALL, "x", &[over]).is_err());
    }
}
