//! The text of a new project file.

use crate::{
    keys::{Key, TABLES, Table},
    overrides::quote,
    value::label,
};

/// What a new file says; everything else stands in it as a comment, with its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starter {
    /// A DNS label; see [`name_for`].
    pub name: String,
    pub base_image: String,
    pub nodejs_version: Option<String>,
    /// Why it is what it is, one line each, for a comment above the rest.
    pub because: Vec<String>,
    pub start: Vec<String>,
    pub ready: Option<Vec<String>>,
    pub test: Option<Vec<String>>,
    pub port: Option<u16>,
    pub memory: Option<String>,
    pub environment: Vec<(String, String)>,
}

/// The nearest name that a project can have; `app` where there is none.
pub fn name_for(directory: &str) -> String {
    match label(directory) {
        Ok(name) => name,
        Err(_) => crate::value::nearest_label(directory).unwrap_or_else(|| "app".to_owned()),
    }
}

impl Starter {
    /// A project file with a comment for every key.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.because {
            let plain: String = line.chars().filter(|c| !c.is_control()).collect();
            text.push_str(&format!("# {plain}\n"));
        }
        for table in TABLES {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("# {}\n[{}]\n", table.about, table.name));
            for key in table.keys {
                text.push_str(&self.line(table, key));
            }
            if table.is_open() {
                for (name, value) in &self.environment {
                    text.push_str(&format!("{name} = {}\n", quote(value)));
                }
                text.push_str("# MODE = \"production\"\n# API_KEY = \"$API_KEY\"\n");
            }
        }
        text
    }

    fn line(&self, table: &Table, key: &Key) -> String {
        let said = match (table.name, key.name) {
            ("project" | "template", "name") => Some(quote(&self.name)),
            ("project", "version") => Some("\"0.1.0\"".to_owned()),
            ("template", "base_image") => Some(quote(&self.base_image)),
            ("template", "nodejs_version") => self.nodejs_version.as_deref().map(quote),
            ("commands", "start") => Some(list(&self.start)),
            ("commands", "ready") => self.ready.as_deref().map(list),
            ("commands", "test") => self.test.as_deref().map(list),
            ("resources", "memory") => self.memory.as_deref().map(quote),
            ("network", "ports") => self.port.map(|port| format!("[{port}]")),
            _ => None,
        };
        match said {
            Some(value) => format!("{} = {value} # {}\n", key.name, key.about),
            None => format!("# {} = {} # {}\n", key.name, default(key), key.about),
        }
    }
}

fn default(key: &Key) -> &'static str {
    match key.presence {
        crate::keys::Presence::Default(value) => value,
        _ => key.example,
    }
}

fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Project;

    fn starter() -> Starter {
        Starter {
            name: name_for("My App!"),
            base_image: "base".into(),
            nodejs_version: None,
            because: vec!["Python: app.py\n[security]".into()],
            start: vec!["python3".into(), "it's \"here\".py".into()],
            ready: None,
            test: Some(vec!["pytest".into()]),
            port: Some(8000),
            memory: Some("1GB".into()),
            environment: vec![("PYTHONUNBUFFERED".into(), "1".into())],
        }
    }

    #[test]
    fn a_new_file_is_right_and_says_what_was_meant() {
        let text = starter().text();
        let project = Project::parse(&text, "soulbox.toml").unwrap();
        assert_eq!(project.project.name, "my-app");
        assert_eq!(project.commands.start, starter().start);
        assert_eq!(project.commands.test, starter().test);
        assert_eq!(project.network.ports.len(), 1);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn every_commented_line_may_be_used_as_it_is() {
        let bare = Starter { test: None, ..starter() }.text();
        let used: String = bare
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let project =
            Project::parse(&used, "x").unwrap_or_else(|wrong| panic!("{}", wrong.render(false)));
        assert!(project.commands.test.is_some() && project.template.python_version.is_some());
    }

    #[test]
    fn any_directory_has_a_name() {
        for (directory, name) in [("app", "app"), ("My App", "my-app"), ("ä", "app"), ("", "app")]
        {
            assert_eq!(name_for(directory), name);
        }
    }
}
