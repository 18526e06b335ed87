//! Files that are wrong, each with what is said about it.

use std::{fs, path::Path};

use soulbox_spec::{Project, diagnostic::MAX_PROBLEMS};

#[test]
fn every_broken_file_is_told_what_is_wrong_with_it() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut names: Vec<_> = fs::read_dir(directory.clone())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 60, "{} files", names.len());
    for name in names {
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        let Err(wrong) = Project::parse(&text, &name) else { panic!("{name} is right") };
        assert!(!wrong.problems().is_empty() && wrong.problems().len() <= MAX_PROBLEMS);
        let rendered = wrong.render(false);
        assert!(!rendered.contains(['\u{1b}', '\u{202e}']), "{name} drives the terminal");
        let json = wrong.to_json();
        for problem in json.as_array().unwrap() {
            assert!(problem["line"].as_u64() >= Some(1), "{problem}");
            assert!(problem["column"].as_u64() >= Some(1), "{problem}");
            assert_eq!(problem["file"], name.as_str());
        }
        let name = name.trim_end_matches(".toml");
        let shown: String = rendered.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        insta::assert_snapshot!(name, shown);
    }
}

#[test]
fn programs_get_the_same_in_json() {
    let text = include_str!("broken/many-at-once.toml");
    let wrong = Project::parse(text, "soulbox.toml").unwrap_err();
    insta::assert_json_snapshot!(wrong.to_json());
}
