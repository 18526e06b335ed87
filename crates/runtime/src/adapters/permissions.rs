//! What a program may do, as Deno has it.

/// What of one kind a program may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Grant {
    #[default]
    None,
    All,
    /// Hosts, paths, variables or programs.
    Only(Vec<String>),
}

impl Grant {
    /// From a flag's value: an empty one is all.
    ///
    /// # Errors
    /// An item with a line break, a NUL or nothing in it.
    pub fn parse(value: &str) -> Result<Self, String> {
        if value.is_empty() {
            return Ok(Self::All);
        }
        let items: Vec<String> = value.split(',').map(|item| item.trim().to_owned()).collect();
        let odd = |item: &String| item.is_empty() || item.contains(['\n', '\r', '\0']);
        match items.iter().find(|item| odd(item)) {
            None => Ok(Self::Only(items)),
            Some(item) => Err(format!("`{item}` is nothing that can be allowed")),
        }
    }

    /// `--allow-net`, `--allow-net=a,b`, or nothing.
    fn flag(&self, name: &str) -> Option<String> {
        match self {
            Self::None => None,
            Self::All => Some(format!("--allow-{name}")),
            Self::Only(items) => Some(format!("--allow-{name}={}", items.join(","))),
        }
    }
}

/// Nothing, unless it is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    pub net: Grant,
    pub read: Grant,
    pub write: Grant,
    pub env: Grant,
    pub run: Grant,
}

impl Permissions {
    /// As Deno's command line takes them.
    pub fn flags(&self) -> Vec<String> {
        let kinds = [
            ("net", &self.net),
            ("read", &self.read),
            ("write", &self.write),
            ("env", &self.env),
            ("run", &self.run),
        ];
        kinds.into_iter().filter_map(|(name, grant)| grant.flag(name)).collect()
    }
}
