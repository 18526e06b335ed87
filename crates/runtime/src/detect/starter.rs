//! How a project of a runtime is probably started and tested.

use std::path::Path;

use super::{
    Detection, Runtime,
    rules::{Folder, PAGES},
    serves,
    tree::Tree,
};

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
    /// Where the default is not enough.
    pub memory: Option<&'static str>,
    /// Variables that a program of this kind had better have.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Whether nothing speaks for `start`.
    pub guessed: bool,
    /// Why `start` is what it is.
    pub because: String,
    /// What the user may have to do besides.
    pub remarks: Vec<String>,
}

/// The commands for what was found in `directory`.
pub fn commands(directory: &Path, detection: &Detection) -> Commands {
    let mut commands = of_runtime(directory, detection);
    if commands.guessed && !detection.parts.is_empty() {
        let parts: Vec<_> = detection
            .parts
            .iter()
            .map(|part| format!("{} ({})", part.directory, part.runtime))
            .collect();
        commands.remarks.push(format!(
            "It has parts of their own: {}. Each can be a project: `soulbox init DIR`.",
            parts.join(", ")
        ));
    }
    commands
}

fn of_runtime(directory: &Path, detection: &Detection) -> Commands {
    let tree = Tree::read(directory, &mut |_| {}).ok();
    let folder = tree.as_ref().map(|tree| Folder::new(tree, ""));
    let has = |name: &str| folder.as_ref().is_some_and(|folder| folder.has(name));
    let first = |names: &[&str]| names.iter().find(|name| has(name)).map(|name| (*name).to_owned());
    let line = |name: &str| {
        let package = folder.as_ref().and_then(Folder::package);
        package.and_then(|package| package.script(name)).map(str::to_owned)
    };
    let script = |name: &str| line(name).is_some();
    let task = |name: &str| folder.as_ref()?.task(name);
    // The file that a command names, or the script that it calls, and where it says that it serves.
    let served = |start: &[String], script: &dyn Fn(&str) -> Option<String>, otherwise: u16| {
        let line = start.last().and_then(|name| script(name)).unwrap_or_default();
        let words = start.iter().map(String::as_str).chain(line.split_whitespace());
        let file = words.map(|word| word.trim_start_matches("./")).find(|word| has(word));
        let text = file.and_then(|file| folder.as_ref()?.text(file));
        let said = text.and_then(|text| serves::port(&text));
        (Some(said.unwrap_or(otherwise)), said.map(answers))
    };
    // What the manifest calls its file goes before what is called like one.
    let entry = |keys: &[&str], names: &[&str]| {
        let named = keys.iter().find_map(|key| {
            let folder = folder.as_ref()?;
            let file = folder.resolve(folder.package()?.text(key)?)?;
            let because = format!("package.json has {file} as `{key}`");
            Some(Entry { file, because })
        });
        named.or_else(|| first(names).map(Entry::called))
    };
    match detection.runtime {
        Some(Runtime::Python) => python(&first, &has, folder.as_ref(), detection),
        Some(Runtime::Node | Runtime::VercelEdge) => {
            let test = script("test").then(|| words("npm test"));
            let names = [
                "server.js",
                "app.js",
                "index.js",
                "index.mjs",
                "main.js",
                "src/server.js",
                "src/index.js",
            ];
            let calls = Scripts {
                has: &script,
                named: "package.json has the script",
                call: &|name| {
                    if name == "start" { "npm start".into() } else { format!("npm run {name}") }
                },
            };
            let (start, guessed, because) =
                calls.or(entry(&["main"], &names), "index.js", &["node"]);
            let (port, ready) = served(&start, &line, 3000);
            let mut remarks = Vec::new();
            if has("package.json")
                && folder.as_ref().is_some_and(|folder| folder.package().is_none())
            {
                remarks.push("package.json is no JSON object: nothing in it was seen.".to_owned());
            }
            Commands { start, guessed, ready, test, port, because, remarks, ..Commands::default() }
        }
        Some(Runtime::Bun) => {
            let names =
                ["server.ts", "index.ts", "index.tsx", "index.js", "app.ts", "src/index.ts"];
            let calls = Scripts {
                has: &script,
                named: "package.json has the script",
                call: &|name| format!("bun run {name}"),
            };
            let (start, guessed, because) =
                calls.or(entry(&["module", "main"], &names), "index.ts", &["bun", "run"]);
            let (port, ready) = served(&start, &line, 3000);
            let test = Some(words("bun test"));
            Commands { start, guessed, ready, test, port, because, ..Commands::default() }
        }
        Some(Runtime::Deno | Runtime::DenoDeploy) => {
            let names = ["main.ts", "server.ts", "mod.ts", "main.js", "index.ts", "src/main.ts"];
            let calls = Scripts {
                has: &|name| task(name).is_some(),
                named: "the configuration of deno has the task",
                call: &|name| format!("deno task {name}"),
            };
            let program = ["deno", "run", "--allow-net"];
            let (start, guessed, because) =
                calls.or(first(&names).map(Entry::called), "main.ts", &program);
            let (port, ready) = served(&start, &task, 8000);
            let test = Some(words("deno test"));
            Commands { start, guessed, ready, test, port, because, ..Commands::default() }
        }
        Some(Runtime::CloudflareWorkers) => Commands {
            nodejs_version: Some(NODE),
            start: words("npx wrangler dev --ip 0.0.0.0 --port 8787"),
            ready: Some(answers(8787)),
            test: script("test").then(|| words("npm test")),
            port: Some(8787),
            // It runs two workerd beside itself.
            memory: Some("1GB"),
            because: "wrangler runs Workers".to_owned(),
            ..Commands::default()
        },
        Some(Runtime::Browser) if script("dev") => Commands {
            nodejs_version: Some(NODE),
            start: words("npm run dev"),
            test: script("test").then(|| words("npm test")),
            port: Some(5173),
            because: "package.json has the script `dev`".to_owned(),
            ..Commands::default()
        },
        Some(Runtime::Browser) => {
            let page = PAGES.into_iter().find(|page| has(page));
            let below = page.and_then(|page| page.rsplit_once('/')).map(|(below, _)| below);
            let below = below.map(|below| format!(" --directory {below}")).unwrap_or_default();
            Commands {
                start: words(&format!("python3 -m http.server 8000{below}")),
                ready: Some(answers(8000)),
                test: page.map(|page| words(&format!("soulbox-page {page}"))),
                port: Some(8000),
                because: "a page needs no more than a server of files".to_owned(),
                ..Commands::default()
            }
        }
        None => Commands {
            guessed: true,
            start: words("sleep infinity"),
            because: "nothing says what is started: put your own command here".to_owned(),
            ..Commands::default()
        },
    }
}

fn python(
    first: &dyn Fn(&[&str]) -> Option<String>,
    has: &dyn Fn(&str) -> bool,
    folder: Option<&Folder<'_>>,
    detection: &Detection,
) -> Commands {
    let (test, remarks) = python_test(folder);
    // What it prints is seen when it prints it.
    let environment = vec![("PYTHONUNBUFFERED", "1")];
    let bare = Commands { test, remarks, environment, ..Commands::default() };
    if has("manage.py") {
        return Commands {
            start: words("python3 manage.py runserver 0.0.0.0:8000"),
            ready: Some(answers(8000)),
            test: Some(words("python3 manage.py test")),
            port: Some(8000),
            because: "manage.py is Django's".to_owned(),
            ..bare
        };
    }
    if let Some(web) = folder.and_then(python_web) {
        return Commands {
            test: bare.test,
            remarks: bare.remarks,
            environment: bare.environment,
            ..web
        };
    }
    let entry = first(&["app.py", "main.py", "server.py", "wsgi.py", "asgi.py"]);
    let served = entry.is_some();
    // A name that a shell or an option could be made of stays out.
    let safe = |file: &str| file.ends_with(".py") && !file.starts_with('-') && !file.contains('/');
    let only = detection.evidence.iter().map(|e| e.file.as_str()).find(|file| safe(file));
    let entry = entry.or_else(|| only.map(str::to_owned));
    let guessed = entry.is_none();
    let (start, because) = said(entry.map(Entry::called), "main.py", &["python3"]);
    Commands { start, guessed, port: served.then_some(8000), because, ..bare }
}

/// An application of one of the frameworks that most have.
fn python_web(folder: &Folder<'_>) -> Option<Commands> {
    let files = ["main.py", "app.py", "server.py", "wsgi.py", "asgi.py"];
    files.iter().filter_map(|file| Some((*file, folder.text(file)?))).find_map(|(file, text)| {
        let module = file.trim_end_matches(".py");
        let serve = |line: &str, port: u16, because: String| Commands {
            start: words(line),
            ready: Some(answers(port)),
            port: Some(port),
            because,
            ..Commands::default()
        };
        // Where it starts its own server, that is how it is meant to run.
        let own = |call: &str, otherwise: u16| {
            let arguments = serves::arguments(&text, call)?;
            let said = serves::port(arguments);
            let port = said.or((!arguments.contains("port")).then_some(otherwise));
            let because = format!("{file} calls {call}…)");
            Some(Commands {
                ready: port.map(answers),
                ..serve(&format!("python3 {file}"), port.unwrap_or(otherwise), because)
            })
        };
        if let Some(name) = serves::application(&text, "FastAPI") {
            return own("uvicorn.run(", 8000).or_else(|| {
                let line = format!("python3 -m uvicorn {module}:{name} --host 0.0.0.0 --port 8000");
                Some(serve(&line, 8000, format!("{file} has the FastAPI application `{name}`")))
            });
        }
        if !text.contains("Flask(") {
            return None;
        }
        own("app.run(", 5000).or_else(|| {
            let line = format!("python3 -m flask --app {module} run --host 0.0.0.0 --port 8000");
            Some(serve(&line, 8000, format!("{file} has a Flask application")))
        })
    })
}

/// How it is tested, if there is anything to test, and what that needs.
fn python_test(folder: Option<&Folder<'_>>) -> (Option<Vec<String>>, Vec<String>) {
    let Some(folder) = folder else { return (None, Vec::new()) };
    let lists = |file: &&String| {
        file.starts_with("requirements") && file.ends_with(".txt")
            || matches!(file.as_str(), "pyproject.toml" | "Pipfile")
    };
    let named =
        folder.files().iter().filter(lists).filter_map(|file| folder.text(file)).any(|text| {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            text.split(|c| !letter(c)).any(|word| word == "pytest")
        });
    if !named && !folder.has_tests() {
        return (None, Vec::new());
    }
    let remark = "Nothing requires pytest, which its tests probably need: a line in requirements-dev.txt does.";
    let remarks = if named { Vec::new() } else { vec![remark.to_owned()] };
    (Some(words("python3 -m pytest -q")), remarks)
}

/// The file that a program begins with.
struct Entry {
    file: String,
    because: String,
}

impl Entry {
    fn called(file: String) -> Self {
        Self { because: format!("{file} is there"), file }
    }
}

/// Scripts of a manifest.
struct Scripts<'a> {
    has: &'a dyn Fn(&str) -> bool,
    /// As the reason says it, before the name.
    named: &'a str,
    call: &'a dyn Fn(&str) -> String,
}

impl Scripts<'_> {
    /// The script that starts it, or else the file; whether that is a guess, and why.
    fn or(
        &self,
        entry: Option<Entry>,
        otherwise: &str,
        program: &[&str],
    ) -> (Vec<String>, bool, String) {
        for name in ["start", "dev"] {
            // What one starts while one writes it is better than a guess alone.
            if (self.has)(name) && (name == "start" || entry.is_none()) {
                return (words(&(self.call)(name)), false, format!("{} `{name}`", self.named));
            }
        }
        let guessed = entry.is_none();
        let (start, because) = said(entry, otherwise, program);
        (start, guessed, because)
    }
}

/// Whether anything answers there, whatever it says.
fn answers(port: u16) -> Vec<String> {
    words(&format!("curl -so /dev/null http://localhost:{port}/"))
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn said(entry: Option<Entry>, otherwise: &str, program: &[&str]) -> (Vec<String>, String) {
    let entry = entry.unwrap_or_else(|| Entry {
        file: otherwise.to_owned(),
        because: format!("nothing says what is started: {otherwise} is a guess"),
    });
    let start = program.iter().map(|word| (*word).to_owned()).chain([entry.file]).collect();
    (start, entry.because)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::detect::Detector;

    fn of(files: &[(&str, &str)]) -> Commands {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
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
    fn a_framework_is_started_as_it_is_meant_to_be() {
        let of_python = |file: &str, text: &str| of(&[(file, text), ("requirements.txt", "x")]);
        let api = of_python("main.py", "from fastapi import FastAPI\napi = FastAPI()\n");
        assert_eq!(api.start[1..4], ["-m", "uvicorn", "main:api"]);
        assert_eq!((api.port, api.ready), (Some(8000), Some(answers(8000))));
        let flask = "app = Flask(__name__)\n";
        let bare = of_python("app.py", flask);
        assert_eq!(bare.start[1..6], ["-m", "flask", "--app", "app", "run"]);
        let own = of_python("app.py", &format!("{flask}app.run(port=5001)"));
        assert_eq!((own.start[1].as_str(), own.port), ("app.py", Some(5001)));
        let usual = of_python("app.py", &format!("{flask}app.run(debug=True)"));
        assert_eq!((usual.port, usual.ready), (Some(5000), Some(answers(5000))));
        let unknown = of_python("app.py", &format!("{flask}app.run(port=PORT)"));
        assert_eq!((unknown.port, unknown.ready), (Some(5000), None));
    }

    #[test]
    fn the_port_of_a_script_is_in_its_file() {
        let package = r#"{"scripts": {"start": "node ./server.js"}}"#;
        let node = of(&[("package.json", package), ("server.js", "app.listen(4000)")]);
        assert_eq!((node.port, node.ready), (Some(4000), Some(answers(4000))));
        let dev = of(&[("package.json", r#"{"scripts": {"dev": "next dev"}}"#)]);
        assert_eq!((dev.start.join(" ").as_str(), dev.ready), ("npm run dev", None));
    }

    #[test]
    fn what_a_manifest_names_is_started() {
        let main = |main: &str, file: &str| {
            let package = format!("{{\"main\": \"{main}\"}}");
            of(&[("package.json", &package), (file, "app.listen(4001)")])
        };
        for (named, file) in [
            ("src/index.js", "src/index.js"),
            ("./lib/run", "lib/run.js"),
            ("dist/", "dist/index.js"),
            ("zz.cjs", "zz.cjs"),
        ] {
            let found = main(named, file);
            assert_eq!((found.start, found.guessed), (vec!["node".into(), file.into()], false));
            assert!(found.because.contains("`main`"), "{}", found.because);
        }
        assert_eq!(main("src/index.js", "src/index.js").port, Some(4001));
        for named in ["gone.js", "../x.js", "/etc/passwd", "-e", ""] {
            assert_eq!(main(named, "app.js").start, ["node", "app.js"], "{named}");
        }
        let bun = of(&[
            ("package.json", r#"{"module": "lib/go.ts"}"#),
            ("lib/go.ts", ""),
            ("bun.lock", ""),
        ]);
        assert_eq!(bun.start, ["bun", "run", "lib/go.ts"]);
    }

    #[test]
    fn tasks_of_deno_are_scripts() {
        let tasks = |tasks: &str, more: &[(&str, &str)]| {
            let config = format!("{{\"tasks\": {tasks}}}");
            of(&[&[("deno.json", config.as_str())], more].concat())
        };
        let start = r#"{"start": "deno run -A src/serve.ts"}"#;
        let found = tasks(start, &[("src/serve.ts", "Deno.serve({ port: 4002 })")]);
        assert_eq!((found.start, found.port), (words("deno task start"), Some(4002)));
        assert!(found.ready.is_some() && !found.guessed);
        let object = tasks(r#"{"start": {"command": "deno run x.ts"}}"#, &[("main.ts", "")]);
        assert_eq!(object.start, words("deno task start"));
        let dev = r#"{"dev": "deno run --watch main.ts"}"#;
        assert_eq!(tasks(dev, &[]).start, words("deno task dev"));
        assert_eq!(tasks(dev, &[("main.ts", "")]).start.last().unwrap(), "main.ts");
    }

    #[test]
    fn a_page_is_served_from_where_it_lies() {
        let page = "<script type=module src=a.js></script>";
        for (file, start) in [
            ("index.html", "python3 -m http.server 8000"),
            ("public/index.html", "python3 -m http.server 8000 --directory public"),
            ("src/index.html", "python3 -m http.server 8000 --directory src"),
        ] {
            let found = of(&[(file, page)]);
            assert_eq!(found.start, words(start));
            assert_eq!(found.test.unwrap(), ["soulbox-page", file]);
        }
    }

    #[test]
    fn tests_are_run_where_there_are_any() {
        assert_eq!(of(&[("app.py", ""), ("requirements.txt", "flask\npytest-cov")]).test, None);
        let named = of(&[("app.py", ""), ("requirements-dev.txt", "pytest>=8")]);
        assert!(named.test.is_some() && named.remarks.is_empty());
        let lacking = of(&[("app.py", ""), ("test_app.py", "")]);
        assert!(lacking.test.is_some() && lacking.remarks[0].contains("pytest"));
    }

    #[test]
    fn what_was_not_seen_is_told() {
        let broken = of(&[("package.json", "{")]);
        assert!(broken.remarks[0].contains("package.json"), "{broken:?}");
    }

    #[test]
    fn a_port_that_is_a_guess_is_not_waited_for() {
        let app = of(&[("app.py", "")]);
        assert_eq!((app.port, app.ready), (Some(8000), None));
    }
}
