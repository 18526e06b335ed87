//! How a project of a runtime is probably started and tested.

use std::path::Path;

use super::{Detection, Runtime, rules::Folder, tree::Tree};

/// Which Node.js a tool needs that does not run on Debian's.
const NODE: &str = "22";

/// A guess for a new project file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commands {
    /// What the template may lack.
    pub nodejs_version: Option<&'static str>,
    pub start: Vec<String>,
    /// Where `start` itself says on which port it serves.
    pub ready: Option<Vec<String>>,
    pub test: Option<Vec<String>>,
    pub port: Option<u16>,
    /// Why `start` is what it is.
    pub because: String,
}

/// The commands for what was found in `directory`.
pub fn commands(directory: &Path, detection: &Detection) -> Commands {
    let tree = Tree::read(directory, &mut |_| {}).ok();
    let folder = tree.as_ref().map(|tree| Folder::new(tree, ""));
    let has = |name: &str| folder.as_ref().is_some_and(|folder| folder.has(name));
    let first = |names: &[&str]| names.iter().find(|name| has(name)).map(|name| (*name).to_owned());
    let script = |name: &str| {
        let package = folder.as_ref().and_then(Folder::package);
        package.and_then(|package| package.script(name)).is_some()
    };
    match detection.runtime {
        Some(Runtime::Python) => python(&first, &has, detection),
        Some(Runtime::Node | Runtime::VercelEdge) => {
            let test = script("test").then(|| words("npm test"));
            let (start, because) = if script("start") {
                (words("npm start"), "package.json has the script `start`".to_owned())
            } else {
                let entry = first(&["server.js", "app.js", "index.js", "index.mjs", "main.js"]);
                said(entry, "index.js", &["node"])
            };
            Commands { start, test, port: Some(3000), because, ..Commands::default() }
        }
        Some(Runtime::Bun) => {
            let (start, because) = if script("start") {
                (words("bun run start"), "package.json has the script `start`".to_owned())
            } else {
                let entry = first(&["server.ts", "index.ts", "index.tsx", "index.js", "app.ts"]);
                said(entry, "index.ts", &["bun", "run"])
            };
            let test = Some(words("bun test"));
            Commands { start, test, port: Some(3000), because, ..Commands::default() }
        }
        Some(Runtime::Deno | Runtime::DenoDeploy) => {
            let entry = first(&["main.ts", "server.ts", "mod.ts", "main.js", "index.ts"]);
            let (start, because) = said(entry, "main.ts", &["deno", "run", "--allow-net"]);
            let test = Some(words("deno test"));
            Commands { start, test, port: Some(8000), because, ..Commands::default() }
        }
        Some(Runtime::CloudflareWorkers) => Commands {
            nodejs_version: Some(NODE),
            start: words("npx wrangler dev --ip 0.0.0.0 --port 8787"),
            ready: Some(answers(8787)),
            test: script("test").then(|| words("npm test")),
            port: Some(8787),
            because: "wrangler runs Workers".to_owned(),
        },
        Some(Runtime::Browser) if script("dev") => Commands {
            nodejs_version: Some(NODE),
            start: words("npm run dev"),
            test: script("test").then(|| words("npm test")),
            port: Some(5173),
            because: "package.json has the script `dev`".to_owned(),
            ..Commands::default()
        },
        Some(Runtime::Browser) => Commands {
            start: words("python3 -m http.server 8000"),
            ready: Some(answers(8000)),
            test: has("index.html").then(|| words("soulbox-page index.html")),
            port: Some(8000),
            because: "a page needs no more than a server of files".to_owned(),
            ..Commands::default()
        },
        None => Commands {
            start: words("sleep infinity"),
            because: "nothing says what is started: put your own command here".to_owned(),
            ..Commands::default()
        },
    }
}

fn python(
    first: &dyn Fn(&[&str]) -> Option<String>,
    has: &dyn Fn(&str) -> bool,
    detection: &Detection,
) -> Commands {
    let test = Some(words("python3 -m pytest -q"));
    if has("manage.py") {
        return Commands {
            start: words("python3 manage.py runserver 0.0.0.0:8000"),
            ready: Some(answers(8000)),
            test: Some(words("python3 manage.py test")),
            port: Some(8000),
            because: "manage.py is Django's".to_owned(),
            ..Commands::default()
        };
    }
    let entry = first(&["app.py", "main.py", "server.py", "wsgi.py", "asgi.py"]);
    let served = entry.is_some();
    // A name that a shell or an option could be made of stays out.
    let safe = |file: &str| file.ends_with(".py") && !file.starts_with('-') && !file.contains('/');
    let only = detection.evidence.iter().map(|e| e.file.as_str()).find(|file| safe(file));
    let entry = entry.or_else(|| only.map(str::to_owned));
    let (start, because) = said(entry, "main.py", &["python3"]);
    Commands { start, test, port: served.then_some(8000), because, ..Commands::default() }
}

/// Whether anything answers there, whatever it says.
fn answers(port: u16) -> Vec<String> {
    words(&format!("curl -so /dev/null http://localhost:{port}/"))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn said(entry: Option<String>, otherwise: &str, program: &[&str]) -> (Vec<String>, String) {
    let because = match &entry {
        Some(file) => format!("{file} is there"),
        None => format!("nothing says what is started: {otherwise} is a guess"),
    };
    let mut start: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
    start.push(entry.unwrap_or_else(|| otherwise.to_owned()));
    (start, because)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::detect::Detector;

    fn of(files: &[(&str, &str)]) -> Commands {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(temp.path().join(name), text).unwrap();
        }
        commands(temp.path(), &Detector::new().detect(temp.path()).unwrap())
    }

    #[test]
    fn what_a_tool_needs_and_where_it_serves_is_said() {
        let worker = of(&[("wrangler.toml", "name = \"w\"")]);
        assert_eq!((worker.nodejs_version, worker.port), (Some(NODE), Some(8787)));
        assert_eq!(worker.ready.unwrap().last().unwrap(), "http://localhost:8787/");
        let page = of(&[("index.html", "<script type=module src=a.js></script>")]);
        assert!(page.nodejs_version.is_none() && page.ready.is_some());
    }

    #[test]
    fn a_port_that_is_a_guess_is_not_waited_for() {
        let app = of(&[("app.py", "")]);
        assert_eq!((app.port, app.ready), (Some(8000), None));
    }
}
