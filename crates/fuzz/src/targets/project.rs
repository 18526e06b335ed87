//! Project files.

use soulbox_spec::{Override, Project, edit, show};

/// A text is a project or has problems with a place in it; a project that is shown is the same one; and
/// an edit that changes nothing leaves the text as it is.
pub fn file(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Project::parse(&text, "soulbox.toml") {
        Ok(project) => {
            let shown = show::toml(&project);
            let again = Project::parse(&shown, "shown").expect("what is shown is right");
            assert_eq!(again, project);
            assert!(project.resources.cpu_millis > 0 && !project.commands.start.is_empty());
        }
        Err(wrong) => {
            assert!(!wrong.problems().is_empty() && wrong.problems().len() <= wrong.count());
            for problem in wrong.problems() {
                let (source, from, to) = wrong.place(problem).expect("has a place");
                let lines = source.text.split('\n').count();
                assert!(from.line <= to.line && to.line <= lines && from.column > 0);
            }
            let rendered = wrong.render(false);
            assert!(!rendered.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            assert!(wrong.to_json().is_array());
        }
    }
    if let Ok(same) = edit::apply(&text, &[]) {
        // Line ends are made uniform, and the last line gets one.
        let plain = |text: &str| text.replace("\r\n", "\n").trim_end_matches('\n').to_owned();
        assert_eq!(plain(&same), plain(text.trim_start_matches('\u{feff}')));
    }
}

/// Whatever is typed after `--set` sets one key, or is refused.
pub fn overrides(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(over) = Override::set(&text) else { return };
    let small = Project::parse(soulbox_spec::fuzzing::SMALL, "x").expect("is right");
    if let Ok(project) = Project::parse_with(soulbox_spec::fuzzing::SMALL, "x", &[over]) {
        let changed = [
            project.project != small.project,
            project.template != small.template,
            project.commands != small.commands,
            project.resources != small.resources,
            project.environment != small.environment,
            project.network != small.network,
            project.security != small.security,
        ];
        assert!(changed.iter().filter(|changed| **changed).count() <= 1, "{text:?}");
    }
}
