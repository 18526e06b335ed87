use std::{fs, os::unix::fs::symlink};

use proptest::prelude::*;

use super::*;

/// Layers of a project with these files.
fn of(files: &[(&str, &str)]) -> Result<Vec<Layer>> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    of_project(dir.path())
}

fn one(files: &[(&str, &str)]) -> Layer {
    let mut layers = of(files).unwrap();
    // Below it only what brings its installer.
    assert!(layers.len() <= 2 && layers.iter().rev().skip(1).all(|tool| tool.files.is_empty()));
    layers.pop().unwrap()
}

fn names(layer: &Layer) -> Vec<&str> {
    layer.files.iter().map(|(path, _)| path.as_str()).collect()
}

fn text<'a>(layer: &'a Layer, name: &str) -> &'a str {
    let (_, content) = layer.files.iter().find(|(path, _)| path == name).unwrap();
    std::str::from_utf8(content).unwrap()
}

/// The words of the step that fetches last.
fn command(layer: &Layer) -> String {
    layer.steps.iter().rfind(|step| step.fetches).unwrap().argv.join(" ")
}

#[test]
fn settings_with_tokens_are_not_kept() {
    let settings = [".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml", "pnpm-workspace.yaml"];
    let mut files = vec![("package.json", PACKAGE)];
    files.extend(settings.map(|name| (name, "# token")));
    let layer = one(&files);
    let last = layer.steps.iter().rposition(|step| step.fetches).unwrap();
    let removed: Vec<&String> = layer.steps[last + 1..]
        .iter()
        .filter(|step| step.argv[0] == "rm" && step.cwd == layer.target)
        .flat_map(|step| &step.argv)
        .collect();
    for name in settings {
        assert!(names(&layer).contains(&name), "{name} is read");
        assert!(removed.iter().any(|word| *word == name), "{name} goes");
    }
}

const PACKAGE: &str = r#"{"name":"a","version":"1.0.0","scripts":{"postinstall":"node x.js"},
                          "dependencies":{"ms":"^2.0.0"}}"#;

#[test]
fn the_lock_file_says_who_installs() {
    let package = ("package.json", PACKAGE);
    for (files, installer, words) in [
        (vec![package], "npm", "npm install --no-package-lock"),
        (vec![package, ("package-lock.json", "{}")], "npm", "npm ci"),
        (vec![package, ("pnpm-lock.yaml", "")], "pnpm", "--frozen-lockfile"),
        (vec![package, ("yarn.lock", "")], "yarn", "--frozen-lockfile --non-interactive"),
        (vec![package, ("yarn.lock", "__metadata:\n")], "yarn", "cli-dist/bin/yarn.js install"),
        (vec![package, ("bun.lock", "{}")], "bun", "bun install --frozen-lockfile"),
        (vec![("requirements.txt", "six")], "pip", "pip install -r requirements.txt"),
        (
            vec![("requirements.txt", "six"), ("uv.lock", ""), ("pyproject.toml", "")],
            "uv",
            "--locked",
        ),
        (
            vec![
                ("Pipfile", ""),
                ("Pipfile.lock", r#"{"default":{"six":{"version":"==1.16.0"}}}"#),
            ],
            "pipenv",
            "pip install -r requirements.txt",
        ),
    ] {
        let layer = one(&files);
        assert_eq!(layer.installer, installer, "{files:?}");
        assert!(command(&layer).contains(words), "{}: {}", installer, command(&layer));
    }
}

#[test]
fn what_asks_for_nothing_installs_nothing() {
    for files in [
        &[("main.py", "print()")][..],
        &[("requirements.txt", "# none yet\n\n")],
        &[("package.json", r#"{"scripts":{"test":"node --test"}}"#)],
        &[("package.json", r#"{"dependencies":{}}"#), ("package-lock.json", "{}")],
        &[("pyproject.toml", "[tool.ruff]\nline-length = 100\n")],
        &[("pyproject.toml", "[project]\nname = 'a'\nversion = '1'\n")],
    ] {
        assert_eq!(of(files).unwrap(), [], "{files:?}");
    }
}

#[test]
fn code_and_scripts_do_not_enter() {
    let layer = one(&[("package.json", PACKAGE), ("x.js", "1"), ("package-lock.json", "{}")]);
    assert_eq!(names(&layer), ["package.json", "package-lock.json"]);
    let other = PACKAGE.replace("node x.js", "node y.js").replace("1.0.0", "2.0.0");
    let same = one(&[("package.json", &other), ("y.js", "2"), ("package-lock.json", "{}")]);
    assert_eq!(layer, same, "a change of scripts changes no package");
    assert!(!text(&layer, "package.json").contains("postinstall"));
    assert_ne!(layer, one(&[("package.json", PACKAGE), ("package-lock.json", "{ }")]));
}

#[test]
fn requirement_files_bring_what_they_include() {
    let layer = one(&[
        ("requirements.txt", "-r more/base.txt\nsix==1.16 \\\n  --hash=sha256:00 # why\n"),
        ("more/base.txt", "--constraint=../limits.txt\nidna\n"),
        ("limits.txt", "idna<4"),
        ("requirements-dev.txt", "pytest"),
        ("requirements-gpu.txt", "torch"),
    ]);
    let names = names(&layer);
    assert_eq!(names, ["limits.txt", "more/base.txt", "requirements-dev.txt", "requirements.txt"]);
    assert!(command(&layer).ends_with("install -r requirements.txt -r requirements-dev.txt"));
}

#[test]
fn what_lies_on_this_machine_is_refused_by_name() {
    for line in [
        "-e .",
        "--editable=./lib",
        "./lib",
        "../lib",
        "/srv/lib",
        "lib/",
        "a.whl",
        "a @ file:///srv/a",
        "-f wheels",
        "file:///srv/a.tar.gz",
        "-r ../other.txt",
        "-r /etc/passwd",
        "-r missing.txt",
    ] {
        let error = of(&[("requirements.txt", &format!("six\n{line}\n"))]).unwrap_err();
        assert!(!error.hint().is_empty());
        let told = error.to_string();
        let named = told.contains(":2") || told.contains("other.txt") || told.contains("missing");
        assert!(named || told.contains("passwd"), "{line}: {told}");
    }
    for line in [
        "six",
        "six[a]>=1 ; python_version < '4'",
        "a @ https://example.org/a.whl",
        "-e git+https://example.org/a.git#egg=a",
        "--index-url https://example.org/simple",
    ] {
        of(&[("requirements.txt", line)]).unwrap();
    }
    for wanted in ["file:../a", "link:./a", "../a"] {
        let package = format!(r#"{{"dependencies":{{"a":"{wanted}"}}}}"#);
        assert!(of(&[("package.json", &package)]).unwrap_err().to_string().contains("`a`"));
    }
    let uv = "[tool.uv.sources]\na = { path = '../a' }\n";
    assert!(of(&[("uv.lock", ""), ("pyproject.toml", uv)]).is_err());
}

#[test]
fn links_lead_nowhere_out_of_the_project() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::write(&outside, "six").unwrap();
    let of_node = [("package.json", PACKAGE)];
    for (name, beside) in [
        ("requirements.txt", &[][..]),
        ("requirements-gpu.txt", &[]),
        ("package.json", &[]),
        ("pyproject.toml", &[]),
        ("uv.lock", &[]),
        ("Pipfile.lock", &[]),
        ("bun.lock", &of_node),
        ("bun.lockb", &of_node),
        ("pnpm-lock.yaml", &of_node),
        ("yarn.lock", &of_node),
        ("npm-shrinkwrap.json", &of_node),
        ("package-lock.json", &of_node),
    ] {
        let project = dir.path().join(name.replace('.', "-"));
        fs::create_dir(&project).unwrap();
        for (path, text) in beside {
            fs::write(project.join(path), text).unwrap();
        }
        symlink("../outside", project.join(name)).unwrap();
        let error = of_project(&project).unwrap_err();
        assert!(error.to_string().contains(&format!("{name}: it lies outside")), "{error}");
        // Nor is one that leads to nothing as good as no file.
        fs::remove_file(project.join(name)).unwrap();
        symlink("nothing", project.join(name)).unwrap();
        let error = of_project(&project).unwrap_err();
        assert!(error.to_string().contains(&format!("{name}: it is a link")), "{error}");
    }
    // Within the project they are as good as files.
    let project = dir.path().join("linked");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("list"), "six").unwrap();
    symlink("list", project.join("requirements.txt")).unwrap();
    assert_eq!(of_project(&project).unwrap().len(), 1);
}

#[test]
fn a_pyproject_gives_its_own_lists_and_those_for_development() {
    let text_of = |manifest: &str| {
        let layer = one(&[("pyproject.toml", manifest)]);
        text(&layer, "requirements.txt").to_owned()
    };
    let manifest = "[project]\nname='a'\nversion='1'\ndependencies=['flask>=3','idna']\n\
        [project.optional-dependencies]\ntest=['pytest']\ngpu=['torch']\n\
        [dependency-groups]\ndev=['ruff', {include-group='more'}]\nmore=['mypy', {include-group='dev'}]\n";
    assert_eq!(text_of(manifest), "flask>=3\nidna\npytest\nruff\nmypy\n");
    let later = manifest.replace("version='1'", "version='2'");
    assert_eq!(text_of(&later), text_of(manifest));
    for bad in [
        "[project]\ndynamic=['dependencies']\n",
        "[tool.poetry.dependencies]\npython='^3.11'\nflask='*'\n",
        "[project]\ndependencies=['a @ file:///srv/a']\n",
        "[project",
    ] {
        assert!(of(&[("pyproject.toml", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn a_lock_of_pipenv_becomes_requirements_with_hashes() {
    let lock = r#"{"default":{"a":{"version":"==1","hashes":["sha256:00","sha256:11"],
        "extras":["x"],"markers":"python_version >= '3'"}},"develop":{"b":{"version":"==2"}}}"#;
    let layer = one(&[("Pipfile.lock", lock)]);
    let expected = "a[x]==1 ; python_version >= '3' --hash=sha256:00 --hash=sha256:11\nb==2\n";
    assert_eq!(text(&layer, "requirements.txt"), expected);
    for bad in
        ["{", r#"{"default":{"a":{"path":"."}}}"#, r#"{"default":{"a":{"version":"==1\n-e ."}}}"#]
    {
        assert!(of(&[("Pipfile.lock", bad)]).is_err(), "{bad}");
    }
    assert!(of(&[("Pipfile", "")]).is_err());
}

#[test]
fn packages_of_a_private_index_come_from_nowhere_else() {
    let project = "[project]\nname='a'\nversion='1'\ndependencies=['corp']\n";
    for sources in [
        "[tool.uv.sources]\ncorp = { index = 'corp' }\n",
        "[[tool.uv.index]]\nname = 'corp'\nurl = 'https://example.org/simple'\n",
        "[tool.uv]\nindex-url = 'https://example.org/simple'\n",
        "[tool.uv.pip]\nextra-index-url = ['https://example.org/simple']\n",
        "[[tool.poetry.source]]\nname = 'corp'\nurl = 'https://example.org/simple'\n",
        "[[tool.pdm.source]]\nname = 'pypi'\nurl = 'https://example.org/simple'\n",
    ] {
        let manifest = format!("{project}{sources}");
        let told = of(&[("pyproject.toml", &manifest)]).unwrap_err().to_string();
        assert!(told.contains("where packages come from"), "{told}");
        // A list without an index of its own is read with that of the manifest by others than pip.
        assert!(of(&[("pyproject.toml", &manifest), ("requirements.txt", "corp")]).is_err());
        let list = ("requirements.txt", "--index-url=https://example.org/simple\ncorp");
        of(&[("pyproject.toml", &manifest), list]).unwrap();
        // uv reads them itself.
        of(&[("pyproject.toml", &manifest), ("uv.lock", "")]).unwrap();
    }
    let public = format!("{project}[[tool.poetry.source]]\nname = 'PyPI'\n");
    of(&[("pyproject.toml", &public)]).unwrap();
    let settings = ("uv.toml", "index-url = 'https://example.org/simple'\n");
    assert!(of(&[("pyproject.toml", project), settings]).is_err());
}

#[test]
fn a_lock_of_pipenv_says_its_index() {
    let lock = |sources: &str, index: &str| {
        format!(
            r#"{{"_meta":{{"sources":[{sources}]}},
                 "default":{{"a":{{"version":"==1"{index}}},"b":{{"version":"==2"}}}}}}"#
        )
    };
    let public = r#"{"name":"pypi","url":"https://pypi.org/simple"}"#;
    let corp = r#"{"name":"corp","url":"https://${USER}@example.org/simple"}"#;
    let text_of = |lock: &str| text(&one(&[("Pipfile.lock", lock)]), "requirements.txt").to_owned();
    assert_eq!(text_of(&lock(public, "")), "a==1\nb==2\n");
    let expected = "--index-url https://${USER}@example.org/simple\na==1\nb==2\n";
    assert_eq!(text_of(&lock(corp, "")), expected);
    let both = format!("{public},{corp}");
    assert_eq!(text_of(&lock(&both, r#","index":"pypi""#)), "a==1\nb==2\n");
    for bad in [
        lock(&both, r#","index":"corp""#),
        lock(public, r#","index":"corp""#),
        lock(r#"{"name":"x","url":"https://e.org -r /etc/passwd"}"#, ""),
        lock(r#"{"name":"x","url":"file:///srv"}"#, ""),
    ] {
        assert!(of(&[("Pipfile.lock", &bad)]).is_err(), "{bad}");
    }
}

#[test]
fn parts_of_a_project_bring_their_manifests() {
    let root = r#"{"workspaces":["packages/*","tools"]}"#;
    let part = r#"{"name":"b","version":"1.0.0","dependencies":{"ms":"2"}}"#;
    let layer = one(&[
        ("package.json", root),
        ("packages/b/package.json", part),
        ("packages/none/readme", ""),
        ("tools/package.json", "{}"),
        ("elsewhere/package.json", "{}"),
    ]);
    assert_eq!(names(&layer), ["package.json", "packages/b/package.json", "tools/package.json"]);
    assert!(text(&layer, "packages/b/package.json").contains("1.0.0"));
    assert_eq!(layer.made, ["node_modules", "packages/b/node_modules", "tools/node_modules"]);
    let pnpm = "packages:\n  - 'packages/*'\n\nonlyBuiltDependencies:\n  - esbuild\n";
    let files =
        [("package.json", "{}"), ("packages/b/package.json", part), ("pnpm-workspace.yaml", pnpm)];
    assert_eq!(
        names(&one(&files)),
        ["package.json", "packages/b/package.json", "pnpm-workspace.yaml"]
    );
    for list in [
        "packages:\n  - .\n  - 'b' # ours\n",
        "packages: [\".\", 'b']\n",
        "packages: [\n  ., b ]\n",
    ] {
        let files =
            [("package.json", "{}"), ("b/package.json", part), ("pnpm-workspace.yaml", list)];
        assert_eq!(names(&one(&files))[..2], ["package.json", "b/package.json"], "{list}");
    }
    let layer = one(&[
        ("package.json", r#"{"private":true,"workspaces":["*"]}"#),
        ("b/package.json", part),
    ]);
    assert_eq!(names(&layer), ["package.json", "b/package.json"]);
    assert!(text(&layer, "package.json").contains("private"), "yarn 1 needs it");
    assert!(of(&[("package.json", r#"{"workspaces":["**"]}"#)]).is_err());
    assert!(of(&[("package.json", r#"{"workspaces":["../x"]}"#)]).is_err());
}

#[test]
fn a_named_version_of_an_installer_is_taken_and_nothing_else_of_it() {
    let package =
        |manager: &str| format!(r#"{{"packageManager":"{manager}","dependencies":{{"ms":"2"}}}}"#);
    let layers = of(&[("package.json", &package("pnpm@9.1.0+sha512.aa"))]).unwrap();
    assert!(layers[0].steps.iter().any(|step| step.argv.contains(&"pnpm@9.1.0".to_owned())));
    for bad in ["pnpm@", "pnpm@latest", "pnpm@9 --evil", "pnpm@../x"] {
        assert!(of(&[("package.json", &package(bad))]).is_err(), "{bad}");
    }
}

#[test]
fn packages_by_name_are_names() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let layer = of_runtime("python", &names(&["b==1", "a"])).unwrap().unwrap();
    assert!(command(&layer).ends_with("pip install a b==1"));
    assert!(of_runtime("node", &names(&["@scope/a@1"])).unwrap().is_some());
    assert!(of_runtime("deno", &names(&["a"])).unwrap().is_none());
    for bad in ["--index-url=x", "./a", "", "a\nb", "../x", "/x"] {
        assert!(of_runtime("python", &names(&[bad])).is_err(), "{bad}");
    }
}

/// Words of the files that are read, so that chance finds its way into them.
const WORDS: [&str; 24] = [
    "-r ",
    "-c",
    "requirements.txt",
    "package.json",
    "../",
    "/",
    "\n",
    "\\\n",
    " #",
    " @ ",
    "file:",
    "==1",
    "[",
    "]",
    "{",
    "}",
    "\"dependencies\"",
    ":",
    "\"workspaces\"",
    "*",
    "[project]\n",
    "dependencies",
    "=",
    "\u{2028}é",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_manifests_hold_there_is_an_answer(
        words in proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..40),
    ) {
        let text = words.concat();
        let names = ["requirements.txt", "package.json", "pyproject.toml", "Pipfile.lock", "pnpm-workspace.yaml"];
        for name in names {
            let _ = of(&[("package.json", "{}"), (name, &text)]);
        }
    }
}
