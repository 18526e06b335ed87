//! Values of the environment, in which `$NAME` stands for a secret, `${placeholder:NAME}` for its
//! placeholder and `$$` for a dollar.

use std::fmt;

use super::{Parsed, Wrong};

const FORM: &str =
    "$NAME or ${NAME} for a secret, ${placeholder:NAME} for its placeholder, $$ for a dollar";
const PLACEHOLDER: &str = "placeholder:";
/// Longest name of a secret.
const MAX_NAME: usize = 128;

/// A value in parts. It holds names of secrets, never what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Literal(String),
    /// The value of the secret of this name. The store's names are in lower case, and so is this one:
    /// `$API_KEY` is the secret `api_key`.
    Secret(String),
    /// What stands inside for the secret of this name, which goes to the hosts that it is bound to.
    Placeholder(String),
}

impl Text {
    /// # Errors
    /// For a dollar that begins neither a name nor a dollar.
    pub fn parse(text: &str) -> Parsed<Self> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find('$') {
            let dollar = at + found;
            literal.push_str(&text[at..dollar]);
            let rest = &text[dollar + 1..];
            if rest.starts_with('$') {
                literal.push('$');
                at = dollar + 2;
                continue;
            }
            let (part, length) = reference(rest, dollar)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
            at = dollar + 1 + length;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names of the secrets that it wants, in whatever form.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(name) | Part::Placeholder(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The value, if it wants no secret.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }
}

/// As [`Text::parse`] takes it: secrets by name, dollars doubled.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Literal(text) => f.write_str(&text.replace('$', "$$"))?,
                Part::Secret(name) => write!(f, "${{{name}}}")?,
                Part::Placeholder(name) => write!(f, "${{{PLACEHOLDER}{name}}}")?,
            }
        }
        Ok(())
    }
}

/// What a dollar begins, its name in lower case, and how many bytes it took.
fn reference(rest: &str, dollar: usize) -> Parsed<(Part, usize)> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, length) = match rest.strip_prefix('{') {
        Some(braced) => {
            let Some(end) = braced.find('}') else {
                let wrong = Wrong::new("has a ${ without its }", FORM);
                return Err(wrong.at(dollar..dollar + 2));
            };
            (&braced[..end], end + 2)
        }
        None => {
            let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
            (&rest[..end], end)
        }
    };
    let (name, part): (_, fn(String) -> Part) = match name.strip_prefix(PLACEHOLDER) {
        Some(name) => (name, Part::Placeholder),
        None => (name, Part::Secret),
    };
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(inside) {
        return Ok((part(name.to_ascii_lowercase()), length));
    }
    let end = dollar + 1 + length;
    Err(if name.is_empty() {
        Wrong::new("has a $ that names no secret", FORM).at(dollar..end)
    } else {
        Wrong::new("has a name that no secret can have", "1 to 128 letters, digits, _ and -")
            .at(dollar..end)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(text: &str) -> String {
        let text = Text::parse(text).unwrap();
        let parts = text.parts().iter().map(|part| match part {
            Part::Literal(text) => text.clone(),
            Part::Secret(name) => format!("<{name}>"),
            Part::Placeholder(name) => format!("[{name}]"),
        });
        parts.collect()
    }

    #[test]
    fn dollars_name_secrets_or_are_doubled() {
        for (text, value) in [
            ("", ""),
            ("plain", "plain"),
            ("$API_KEY", "<api_key>"),
            ("${api-key}x", "<api-key>x"),
            ("a$B-c", "a<b>-c"),
            ("5$$", "5$"),
            ("$$$$", "$$"),
            ("$$$A$$", "$<a>$"),
            ("x ${placeholder:API_KEY}", "x [api_key]"),
            ("postgres://u:$PASS@h/$DB", "postgres://u:<pass>@h/<db>"),
        ] {
            assert_eq!(resolved(text), value, "{text}");
        }
        assert_eq!(Text::parse("$$A").unwrap().literal(), Some("$A"));
    }

    #[test]
    fn other_dollars_are_errors_with_their_place() {
        for (text, part) in [
            ("5$", 1..2),
            ("a$ b", 1..2),
            ("${A", 0..2),
            ("${}", 0..3),
            ("${A B}", 0..6),
            ("${placeholder:}", 0..15),
            ("${other:A}", 0..10),
            ("$ä", 0..1),
        ] {
            assert_eq!(Text::parse(text).unwrap_err().part, Some(part), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(text in "(\\$\\{placeholder:|[a-z$ ä{}]){0,20}") {
            if let Ok(parsed) = Text::parse(&text) {
                prop_assert_eq!(Text::parse(&parsed.to_string()), Ok(parsed));
            }
        }

        #[test]
        fn any_text_can_be_said(text in ".{0,40}") {
            let said = Text::parse(&text.replace('$', "$$")).unwrap();
            prop_assert_eq!(said.literal(), Some(text.as_str()));
        }
    }
}
