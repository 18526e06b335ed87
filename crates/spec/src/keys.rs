//! Every table and key that a project file may hold: the one list that parser, overrides, schema and
//! documentation share.

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A DNS label.
    Label,
    SemVer,
    Text,
    BaseImage,
    /// A version in full or in part.
    Version,
    /// A table of strings.
    Strings,
    /// An argument list.
    Arguments,
    Cores,
    Bytes,
    Time,
    Flag,
    Ports,
    Hosts,
    /// Addresses, ranges and names.
    Destinations,
    /// Addresses and ranges.
    Ranges,
    Requests,
    /// A table of hosts and numbers.
    Rates,
    /// A table of destinations and bytes.
    Amounts,
    Datagrams,
}

impl Form {
    /// What was expected, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Label => "a name as \"my-app\"",
            Self::SemVer => "a version as \"1.2.3\"",
            Self::Text => "a string",
            Self::BaseImage => "a template as \"base\" or an image as \"python:3.11-slim\"",
            Self::Version => "a version as \"3.12\"",
            Self::Strings => "a table of strings",
            Self::Arguments => "an array of strings as [\"python\", \"app.py\"]",
            Self::Cores => "cores as \"1.0\" or \"500m\"",
            Self::Bytes => "a size as \"512MB\" or \"512MiB\"",
            Self::Time => "a time as \"300s\", \"5m\" or \"1h\"",
            Self::Flag => "true or false",
            Self::Ports => "an array of ports as [8080]",
            Self::Hosts => "an array of host names as [\"app.example.com\"]",
            Self::Destinations => {
                "an array of addresses, ranges and names as [\"192.0.2.0/24\", \"*.example.com\"]"
            }
            Self::Ranges => "an array of addresses and ranges as [\"192.0.2.0/24\"]",
            Self::Requests => "an array of requests as [\"GET api.example.com/v1/*\"]",
            Self::Rates => "a table of hosts and numbers as { \"api.example.com\" = 600 }",
            Self::Amounts => {
                "a table of destinations and bytes as { \"api.example.com\" = { sent = \"1MB\" } }"
            }
            Self::Datagrams => "an array of destinations and ports as [\"192.0.2.1:123\"]",
        }
    }
}

/// Whether a key must be there, and what holds when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Required,
    Optional,
    /// As the file would say it.
    Default(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub form: Form,
    pub presence: Presence,
    pub about: &'static str,
    /// As the file would say it.
    pub example: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// With a `.` where it lies in another one.
    pub name: &'static str,
    pub about: &'static str,
    /// None at all where any name is a key, as in `[environment]`.
    pub keys: &'static [Key],
}

impl Table {
    /// Whether the names of its keys are the user's.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The table that it lies in, and what it is called there.
    pub fn place(&self) -> (Option<&'static str>, &'static str) {
        match self.name.rsplit_once('.') {
            Some((outer, name)) => (Some(outer), name),
            None => (None, self.name),
        }
    }

    pub fn is_required(&self) -> bool {
        self.keys.iter().any(|key| key.presence == Presence::Required)
    }
}

const fn required(
    name: &'static str,
    form: Form,
    about: &'static str,
    example: &'static str,
) -> Key {
    Key { name, form, presence: Presence::Required, about, example }
}

const fn optional(
    name: &'static str,
    form: Form,
    about: &'static str,
    example: &'static str,
) -> Key {
    Key { name, form, presence: Presence::Optional, about, example }
}

const fn default(
    name: &'static str,
    form: Form,
    value: &'static str,
    about: &'static str,
    example: &'static str,
) -> Key {
    Key { name, form, presence: Presence::Default(value), about, example }
}

/// All of them, in the order in which a file has them.
pub const TABLES: &[Table] = &[
    Table {
        name: "project",
        about: "What this is.",
        keys: &[
            required("name", Form::Label, "Name of the project, a DNS label.", "\"my-app\""),
            required("version", Form::SemVer, "Version of the project, SemVer.", "\"0.1.0\""),
            optional("description", Form::Text, "One line for people.", "\"What it does\""),
        ],
    },
    Table {
        name: "template",
        about: "What it runs on.",
        keys: &[
            required(
                "name",
                Form::Label,
                "Name of the template that is made, a DNS label.",
                "\"my-app\"",
            ),
            required(
                "base_image",
                Form::BaseImage,
                "Template of the server, or image, to start from.",
                "\"base\"",
            ),
            optional(
                "python_version",
                Form::Version,
                "Python to install over the base when it lacks it.",
                "\"3.12\"",
            ),
            optional(
                "nodejs_version",
                Form::Version,
                "Node.js to install over the base when it lacks it.",
                "\"22\"",
            ),
            default(
                "build_args",
                Form::Strings,
                "{}",
                "Variables of every command that installs.",
                "{ MODE = \"release\" }",
            ),
        ],
    },
    Table {
        name: "commands",
        about: "What is run in it; argument lists, not shell lines.",
        keys: &[
            required("start", Form::Arguments, "Starts the project.", "[\"python3\", \"app.py\"]"),
            optional(
                "ready",
                Form::Arguments,
                "Run until it exits 0; the project is ready only then.",
                "[\"curl\", \"-sf\", \"http://localhost:8080/\"]",
            ),
            optional("test", Form::Arguments, "What `soulbox test` runs.", "[\"pytest\", \"-q\"]"),
        ],
    },
    Table {
        name: "resources",
        about: "Hard limits.",
        keys: &[
            default(
                "cpu",
                Form::Cores,
                "\"1.0\"",
                "Processor time: at least 10m, at most the cores of the server.",
                "\"0.5\"",
            ),
            default("memory", Form::Bytes, "\"512MB\"", "Memory: at least 128MB.", "\"1GiB\""),
            default(
                "disk",
                Form::Bytes,
                "\"1GB\"",
                "What may be written: at least 1MB.",
                "\"2GB\"",
            ),
            default("timeout", Form::Time, "\"300s\"", "Life of the sandbox: 1s to 24h.", "\"1h\""),
        ],
    },
    Table {
        name: "environment",
        about: "Variables; $NAME or ${NAME} is a stored secret, ${placeholder:NAME} its placeholder, $$ a dollar.",
        keys: &[],
    },
    Table {
        name: "network",
        about: "What comes in and goes out.",
        keys: &[
            default(
                "ports",
                Form::Ports,
                "[]",
                "The only ports that are reached from outside, each with a URL.",
                "[8080]",
            ),
            default("allow_internet", Form::Flag, "true", "Whether anything may go out.", "false"),
            default(
                "domains",
                Form::Hosts,
                "[]",
                "Host names that lead to the first port: 32 at most.",
                "[\"app.example.com\"]",
            ),
            default(
                "allow_out",
                Form::Destinations,
                "[]",
                "What may be reached where the rest is denied.",
                "[\"192.0.2.0/24\"]",
            ),
            default(
                "deny_out",
                Form::Ranges,
                "[]",
                "What may not be reached unless `allow_out` has it.",
                "[\"192.0.2.0/24\"]",
            ),
        ],
    },
    Table {
        name: "network.requests",
        about: "Which requests hosts get, how many bytes, and where datagrams go.",
        keys: &[
            default(
                "allow",
                Form::Requests,
                "[]",
                "Requests; a host that one names gets no others.",
                "[\"GET api.example.com/v1/*\"]",
            ),
            default(
                "per_minute",
                Form::Rates,
                "{}",
                "Requests a minute, by host.",
                "{ \"*.example.com\" = 600 }",
            ),
            default(
                "bytes",
                Form::Amounts,
                "{}",
                "Bytes in all, by destination.",
                "{ \"*\" = { sent = \"1MB\", received = \"1GB\" } }",
            ),
            default("udp", Form::Datagrams, "[]", "Where datagrams may go.", "[\"192.0.2.1:123\"]"),
        ],
    },
    Table {
        name: "security",
        about: "What code inside may do.",
        keys: &[
            default("allow_docker", Form::Flag, "false", "Containers inside.", "false"),
            default("allow_sudo", Form::Flag, "false", "sudo without a password inside.", "false"),
            default(
                "read_only",
                Form::Flag,
                "false",
                "Root read-only; /tmp and /run in memory.",
                "true",
            ),
        ],
    },
];

/// The table of that name.
pub fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// Those that lie right in `outer`, or at the top.
pub fn tables_in(outer: Option<&str>) -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(move |table| table.place().0 == outer)
}

/// What may stand in `outer`, or at the top: keys, then tables.
pub(crate) fn names_in(outer: Option<&str>) -> Vec<&'static str> {
    let keys = outer.and_then(table).map_or(&[][..], |table| table.keys);
    let tables = tables_in(outer).map(|table| table.place().1);
    keys.iter().map(|key| key.name).chain(tables).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_and_default_is_a_value() {
        for table in TABLES {
            for key in table.keys {
                let said = match key.presence {
                    Presence::Default(value) => vec![value, key.example],
                    _ => vec![key.example],
                };
                for value in said {
                    let given =
                        crate::Override::set(&format!("{}.{}={value}", table.name, key.name));
                    let set = [given.expect("names a key")];
                    let parsed = crate::Project::parse_with(crate::fuzzing::SMALL, "x", &set);
                    // A domain leads to the first port, and what is allowed was denied before; the smallest file
                    // has neither.
                    let missing = ["domains", "allow_out"].contains(&key.name) && value != "[]";
                    assert_eq!(parsed.is_err(), missing, "{} = {value}: {parsed:?}", key.name);
                }
            }
        }
    }
}
