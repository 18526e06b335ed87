//! Names: of projects and templates, and of environment variables.

use super::{Parsed, Wrong};

const LABEL: &str = "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit";
const VARIABLE: &str = "a letter or _ first, then letters, digits and _, 128 at most";

/// A DNS label.
///
/// # Errors
/// With the nearest label, where the text has one.
pub fn label(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = |why: &str| {
        let wrong = Wrong::new(why, LABEL);
        match nearest(text) {
            Some(near) if near != text => wrong.instead(near),
            _ => wrong,
        }
    };
    if text.is_empty() {
        return Err(wrong("is empty"));
    }
    if let Some((at, found)) = text.char_indices().find(|(_, c)| !fits(*c)) {
        let why = format!("must not hold {}", shown(found));
        return Err(wrong(&why).at(at..at + found.len_utf8()));
    }
    if text.starts_with('-') {
        return Err(wrong("must not begin with -").at(0..1));
    }
    if text.ends_with('-') {
        return Err(wrong("must not end with -").at(text.len() - 1..text.len()));
    }
    if text.len() > 63 {
        return Err(wrong(&format!("has {} characters", text.len())).at(63..text.len()));
    }
    Ok(text.to_owned())
}

/// The name of an environment variable.
///
/// # Errors
/// What is wrong with it.
pub fn variable(text: &str) -> Parsed<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || text.len() > 128 {
        return Err(Wrong::new("is empty or too long for the name of a variable", VARIABLE));
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Wrong::new("must not begin with a digit", VARIABLE));
    }
    match text.chars().find(|c| !fits(*c)) {
        Some(found) => {
            let why = format!("must not hold {}", shown(found));
            Err(Wrong::new(why, VARIABLE))
        }
        None => Ok(()),
    }
}

fn shown(c: char) -> String {
    match c {
        ' ' => "a blank".to_owned(),
        c if c.is_control() => format!("U+{:04X}", u32::from(c)),
        c => format!("`{c}`"),
    }
}

/// The text with everything replaced that a label cannot hold.
pub(crate) fn nearest(text: &str) -> Option<String> {
    let mut label = String::new();
    for c in text.chars().take(200).flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' => label.push(c),
            _ if !label.is_empty() && !label.ends_with('-') => label.push('-'),
            _ => {}
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_those_of_dns() {
        for good in ["a", "0", "my-app", &"a".repeat(63), "a--b"] {
            assert_eq!(label(good).as_deref(), Ok(good));
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"a".repeat(64)] {
            assert!(label(bad).is_err(), "{bad}");
        }
        assert_eq!(label("My App").unwrap_err().instead.as_deref(), Some("my-app"));
    }

    #[test]
    fn variables_are_those_of_a_shell() {
        assert!(variable("_A1").is_ok());
        for bad in ["", "1A", "A-B", "A B", "Ä", "A=B", &"A".repeat(129)] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_suggested_is_a_label(text in ".{0,80}") {
            if let Some(near) = nearest(&text) {
                prop_assert_eq!(label(&near), Ok(near));
            }
        }
    }
}
