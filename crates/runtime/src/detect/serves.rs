//! What a source says of how it serves, without reading it as a compiler would.

/// The port that a server is told to listen on: `listen(3000)`, `const port = 3000`, `PORT || 3000`, and `port: 3000` where
/// the source serves; nothing where it is not written there.
pub(super) fn port(text: &str) -> Option<u16> {
    let serves = text.contains("serve(");
    lines(text).find_map(|line| {
        let small = line.to_ascii_lowercase();
        let listens = small.split_once("listen(").map(|(_, rest)| rest);
        let named = small.match_indices("port").filter_map(|(at, word)| {
            let begins = !small[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            let rest = small[at + word.len()..].trim_start_matches([')', ' ']);
            let value = ["=", "||", "??"].iter().find_map(|sign| rest.strip_prefix(sign));
            let field = || rest.strip_prefix(':').filter(|_| serves || listens.is_some());
            value.or_else(field).filter(|_| begins)
        });
        listens.into_iter().chain(named).find_map(number)
    })
}

fn number(text: &str) -> Option<u16> {
    let text = text.trim_start_matches([' ', '"', '\'']);
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let whole = !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    digits.parse().ok().filter(|port| whole && *port > 0)
}

/// The variable that a module keeps its application in, as in `app = FastAPI()`.
pub(super) fn application<'t>(text: &'t str, class: &str) -> Option<&'t str> {
    lines(text).find_map(|line| {
        let (name, made) = line.split_once('=')?;
        let name = name.split(':').next()?.trim_end();
        let called = made.trim().split_once('(')?.0;
        let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (named && called.rsplit('.').next() == Some(class)).then_some(name)
    })
}

/// What follows `call` in its parentheses.
pub(super) fn arguments<'t>(text: &'t str, call: &str) -> Option<&'t str> {
    let line = lines(text).find(|line| line.contains(call))?;
    // From there on in the whole text: it may go on in the next line.
    let at = line.as_ptr() as usize - text.as_ptr() as usize + line.find(call)? + call.len();
    let rest = &text[at..];
    Some(&rest[..rest.find(')').unwrap_or(rest.len())])
}

/// Without comments that have a line of their own.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| {
        let line = line.trim_start();
        !line.starts_with('#') && !line.starts_with("//")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_where_it_is_written() {
        for (text, found) in [
            ("app.listen(3000, () => {})", Some(3000)),
            ("const port = 3001\napp.listen(port)", Some(3001)),
            ("app.listen(process.env.PORT || 3002)", Some(3002)),
            ("const PORT = Number(process.env.PORT) ?? 3003;", Some(3003)),
            ("Bun.serve({\n  port: 3004,\n})", Some(3004)),
            ("server.listen({ port: 3005 })", Some(3005)),
            ("host=\"0.0.0.0\", port=\"5000\"", Some(5000)),
            ("new Pool({ port: 5432 })", None),
            ("import x from './support3000'", None),
            ("// port = 1", None),
            ("# port=1", None),
            ("port = 70000", None),
            ("port = 0", None),
            ("port = 3000.5", None),
            ("viewport = 300", None),
            ("", None),
        ] {
            assert_eq!(port(text), found, "{text}");
        }
    }

    #[test]
    fn an_application_is_found_by_its_class() {
        for (text, found) in [
            ("app = FastAPI()", Some("app")),
            ("api: FastAPI = fastapi.FastAPI(title=\"x\")", Some("api")),
            ("    app = FastAPI()", None),
            ("# app = FastAPI()", None),
            ("x = MyFastAPI()", None),
            ("a, b = FastAPI(), 1", None),
        ] {
            assert_eq!(application(text, "FastAPI"), found, "{text}");
        }
    }

    #[test]
    fn arguments_end_with_their_call() {
        let text = "# app.run(port=1)\napp.run(\n  port=5000,\n)\nconnect(port=5432)";
        assert_eq!(arguments(text, "app.run(").map(str::trim), Some("port=5000,"));
        assert_eq!(arguments(text, "nothing("), None);
    }
}
