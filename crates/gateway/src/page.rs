//! What a person sees in a browser when a sandbox cannot answer: one self-contained page.

use std::fmt::Write;

/// The content of a page; every text is escaped.
pub(crate) struct Page<'a> {
    pub status: u16,
    pub title: &'a str,
    /// One or two sentences.
    pub explanation: &'a str,
    /// Names and values, such as the sandbox and the port.
    pub facts: &'a [(&'a str, String)],
    /// What to do next, in order.
    pub steps: &'a [String],
}

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#f6f5f2;--card:#fff;--ink:#1c1b1a;--dim:#6b6862;--line:#e4e1da;--mark:#c8541f}\
@media(prefers-color-scheme:dark){:root{--bg:#161513;--card:#1f1e1b;--ink:#eceae5;--dim:#9b978e;--line:#34322d;--mark:#f08a57}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:24px;background:var(--bg);color:var(--ink);\
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{width:100%;max-width:560px;background:var(--card);border:1px solid var(--line);border-radius:14px;padding:32px}\
.code{display:inline-block;font:600 13px/1 ui-monospace,Menlo,Consolas,monospace;color:var(--mark);\
border:1px solid currentColor;border-radius:999px;padding:6px 10px;margin-bottom:16px}\
h1{font-size:24px;line-height:1.25;margin:0 0 8px}\
p{margin:0 0 20px;color:var(--dim)}\
dl{display:grid;grid-template-columns:auto 1fr;gap:6px 16px;margin:0 0 24px;padding:14px 16px;border:1px solid var(--line);border-radius:10px}\
dt{color:var(--dim)}\
dd{margin:0;font-family:ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}\
h2{font-size:14px;margin:0 0 6px}\
ul{margin:0 0 24px;padding-left:20px}\
li{margin:4px 0}\
a{display:inline-block;padding:9px 16px;border-radius:8px;background:var(--ink);color:var(--card);text-decoration:none;font-weight:600}\
a:focus-visible{outline:3px solid var(--mark);outline-offset:2px}\
footer{margin-top:24px;font-size:13px;color:var(--dim)}";

impl Page<'_> {
    pub fn render(&self) -> String {
        let mut facts = String::new();
        for (name, value) in self.facts {
            // Writing to a String cannot fail.
            let _ = write!(facts, "<dt>{}</dt><dd>{}</dd>", Escaped(name), Escaped(value));
        }
        let mut steps = String::new();
        for step in self.steps {
            let _ = write!(steps, "<li>{}</li>", Escaped(step));
        }
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>{title} · SoulBox</title><style>{STYLE}</style></head>\
             <body><main><span class=\"code\">{status}</span><h1>{title}</h1><p>{explanation}</p>\
             <dl>{facts}</dl><h2>What to do next</h2><ul>{steps}</ul>\
             <a href=\"\">Try again</a><footer>SoulBox gateway</footer></main></body></html>\n",
            title = Escaped(self.title),
            status = self.status,
            explanation = Escaped(self.explanation),
        )
    }
}

/// Text that can stand in HTML content and in quoted attributes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_escaped() {
        let evil = "<script>alert('x')</script>\"&";
        let html = Page {
            status: 502,
            title: evil,
            explanation: evil,
            facts: &[(evil, evil.to_owned())],
            steps: &[evil.to_owned()],
        }
        .render();
        assert!(!html.contains("<script>"));
        assert!(!html.contains("alert('"));
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;";
        assert_eq!(html.matches(escaped).count(), 6);
    }
}
