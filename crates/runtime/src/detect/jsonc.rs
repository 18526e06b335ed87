//! JSON with comments and commas too many, as tools for JavaScript write it.

use serde_json::Value;

/// The value of a text; none where it is not JSON even without comments.
pub(super) fn parse(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&plain(text)).ok())
}

/// Without comments, and without commas before a closing bracket.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('"', _) => {
                out.push(c);
                while let Some(inner) = chars.next() {
                    out.push(inner);
                    match inner {
                        '\\' => out.extend(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            ('/', Some('/')) => while chars.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) => {
                chars.next();
                let mut last = ' ';
                for inner in chars.by_ref() {
                    if last == '*' && inner == '/' {
                        break;
                    }
                    last = inner;
                }
            }
            (']' | '}', _) => {
                let kept = out.trim_end().strip_suffix(',').map(str::len);
                out.truncate(kept.unwrap_or(out.len()));
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_commas_do_not_matter() {
        let text =
            "// a\n{ /* b */ \"u\": \"http://x/*y*/\", \"e\": \"\\\"//\", \"l\": [1, 2,], }\n";
        let expected = json!({"u": "http://x/*y*/", "e": "\"//", "l": [1, 2]});
        assert_eq!(parse(text), Some(expected));
        for bad in ["", "{", "/*", "\"", "[1 2]"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn json_stays_what_it_is(text in ".{0,40}", number in any::<i64>()) {
            let value = json!({"k": [text, number, null]});
            prop_assert_eq!(parse(&plain(&value.to_string())), Some(value));
        }
    }
}
