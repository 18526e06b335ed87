//! What sources say, without reading them as a compiler would.

/// Sources that are read for one question.
pub(super) const MAX_FILES: usize = 64;
/// Bytes of each: imports and exported settings stand at its beginning.
pub(super) const MAX_BYTES: usize = 16 * 1024;

pub(super) fn is_script(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or_default();
    matches!(ending, "js" | "mjs" | "jsx" | "ts" | "mts" | "tsx")
}

/// Whether a file may be a route or middleware: by its own name, or as anything below `api`.
pub(super) fn is_route(folder: &str, name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    let named = matches!(stem, "middleware" | "route" | "page" | "layout");
    let below_api = || folder.split('/').any(|folder| folder == "api");
    (named || below_api()) && is_script(name)
}

/// The first of `schemes` that something is imported from.
pub(super) fn imports_by<'s>(text: &str, schemes: &[&'s str]) -> Option<&'s str> {
    statements(text).find_map(|line| {
        schemes.iter().copied().find(|scheme| {
            ['"', '\''].iter().any(|quote| {
                let start = format!("{quote}{scheme}");
                line.match_indices(&start).any(|(at, _)| {
                    let before = line[..at].trim_end();
                    let before = before.strip_suffix('(').map_or(before, str::trim_end);
                    before.ends_with("from") || before.ends_with("import")
                })
            })
        })
    })
}

/// `export const runtime = "edge"`, or the same in `export const config = { … }`.
pub(super) fn exports_edge(text: &str) -> bool {
    let mut in_config = false;
    for line in statements(text) {
        let plain: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let plain = plain.replace(['\'', '`'], "\"");
        let edge =
            |rest: &str| rest.starts_with("\"edge\"") || rest.starts_with("\"experimental-edge\"");
        if let Some(rest) = plain.strip_prefix("exportconstruntime=") {
            return edge(rest);
        }
        in_config |= plain.starts_with("exportconstconfig");
        if in_config {
            if let Some(at) = plain.find("runtime:") {
                return edge(&plain[at + "runtime:".len()..]);
            }
            // Closed where it is opened, or on a line of its own.
            in_config = !plain.ends_with('}') && !plain.ends_with("};");
        }
    }
    false
}

/// Lines that are no comments.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    let mut comment = false;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if comment {
            comment = !line.contains("*/");
            return None;
        }
        if line.starts_with("/*") {
            comment = !line.contains("*/");
            return None;
        }
        (!line.starts_with("//") && !line.is_empty()).then_some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_statements() {
        let by = |text| imports_by(text, &["jsr:", "npm:"]);
        for text in [
            "import { a } from \"jsr:@std/a\";",
            "import 'npm:x'",
            "export * from 'npm:x'",
            "const x = await import(\"npm:x\")",
            "import {\n a,\n} from 'jsr:x'",
        ] {
            assert!(by(text).is_some(), "{text}");
        }
        for text in
            ["// import 'npm:x'", "/*\nimport 'npm:x'\n*/", "const a = 'npm:x'", "'jsr:'", ""]
        {
            assert_eq!(by(text), None, "{text}");
        }
    }

    #[test]
    fn edge_is_exported() {
        for text in [
            "export const runtime = 'edge'",
            "export const runtime = \"edge\";",
            "export const config = { runtime: 'edge' };",
            "export const config = {\n  matcher: '/',\n  runtime: `edge`,\n}",
            "export const runtime = 'experimental-edge'",
        ] {
            assert!(exports_edge(text), "{text}");
        }
        for text in [
            "export const runtime = 'nodejs'",
            "const runtime = 'edge'",
            "// export const runtime = 'edge'",
            "export const config = {}\nconst x = { runtime: 'edge' }",
            "",
        ] {
            assert!(!exports_edge(text), "{text}");
        }
    }

    #[test]
    fn routes_have_their_names_and_places() {
        for (folder, name) in [
            ("", "middleware.ts"),
            ("app/x", "route.ts"),
            ("pages/api", "a.js"),
            ("api", "hello.ts"),
            ("app", "page.tsx"),
        ] {
            assert!(is_route(folder, name), "{folder}/{name}");
        }
        for (folder, name) in
            [("src", "a.ts"), ("", "api.ts"), ("", "route.py"), ("app", "route.css")]
        {
            assert!(!is_route(folder, name), "{folder}/{name}");
        }
    }
}
