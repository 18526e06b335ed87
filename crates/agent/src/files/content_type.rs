//! What a download says about its file: media type and name.

use std::fmt::Write;

/// How much of a file tells its type, in bytes.
pub const SNIFFED: usize = 512;
pub const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

/// By the extension of the name, if it is known.
pub fn by_name(name: &str) -> Option<String> {
    let (_, extension) = name.rsplit_once('.')?;
    let essence = mime_guess::from_ext(extension).first_raw()?;
    match essence.starts_with("text/") {
        true => Some(format!("{essence}; charset=utf-8")),
        false => Some(essence.to_owned()),
    }
}

/// Signatures of the WHATWG MIME sniffing standard that matter for downloads.
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0, b"%PDF-", "application/pdf"),
    (0, b"%!PS-Adobe-", "application/postscript"),
    (0, b"\xfe\xff", "text/plain; charset=utf-16be"),
    (0, b"\xff\xfe", "text/plain; charset=utf-16le"),
    (0, b"\xef\xbb\xbf", TEXT),
    (0, b"\x00\x00\x01\x00", "image/x-icon"),
    (0, b"BM", "image/bmp"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBPVP", "image/webp"),
    (8, b"WAVE", "audio/wave"),
    (8, b"AVI ", "video/avi"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"OggS\x00", "application/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/x-gzip"),
    (0, b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (0, b"\x00asm", "application/wasm"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
];

/// Markup that starts an HTML document, after white space and followed by a space or `>`.
const HTML: &[&str] = &[
    "<!doctype html",
    "<html",
    "<head",
    "<script",
    "<iframe",
    "<h1",
    "<div",
    "<font",
    "<table",
    "<a",
    "<style",
    "<title",
    "<b",
    "<body",
    "<br",
    "<p",
    "<!--",
];

/// By the first bytes of the content.
pub fn sniff(content: &[u8]) -> &'static str {
    let content = content.get(..SNIFFED).unwrap_or(content);
    for (offset, signature, media_type) in SIGNATURES {
        if content.get(*offset..).is_some_and(|rest| rest.starts_with(signature)) {
            return media_type;
        }
    }
    let trimmed = content.trim_ascii_start();
    if trimmed.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    let is_html = HTML.iter().any(|tag| {
        trimmed.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
            && matches!(trimmed.get(tag.len()), Some(b' ' | b'>'))
    });
    if is_html {
        return "text/html; charset=utf-8";
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if content.iter().any(is_binary) { BINARY } else { TEXT }
}

/// `inline` with the name, quoted where needed, or by RFC 2231 where it is not plain ASCII.
pub fn disposition(name: &str) -> String {
    let is_special = |byte: u8| b"()<>@,;:\\\"/[]?=".contains(&byte);
    let is_token = |byte: u8| byte.is_ascii_graphic() && !is_special(byte);
    let mut value = "inline; filename".to_owned();
    if name.bytes().all(is_token) && !name.is_empty() {
        value.push('=');
        value.push_str(name);
    } else if name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        value.push_str("=\"");
        for letter in name.chars() {
            if matches!(letter, '"' | '\\') {
                value.push('\\');
            }
            value.push(letter);
        }
        value.push('"');
    } else {
        value.push_str("*=utf-8''");
        for byte in name.bytes() {
            match is_token(byte) && !b"*'%".contains(&byte) {
                true => value.push(char::from(byte)),
                // Writing to a string cannot fail.
                false => drop(write!(value, "%{byte:02X}")),
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_types() {
        assert_eq!(by_name("a.txt").as_deref(), Some("text/plain; charset=utf-8"));
        assert_eq!(by_name("a.tar.png").as_deref(), Some("image/png"));
        assert_eq!(by_name("a.json").as_deref(), Some("application/json"));
        assert_eq!(by_name("Makefile"), None);
        assert_eq!(by_name("a.unheard-of"), None);
    }

    #[test]
    fn contents_tell_types() {
        for (content, media_type) in [
            (&b""[..], TEXT),
            (b"plain\ttext\r\n", TEXT),
            ("ümlaut".as_bytes(), TEXT),
            (b"\x00\x01", BINARY),
            (b"text\x00", BINARY),
            (b"\x89PNG\r\n\x1a\nrest", "image/png"),
            (b"RIFF....WEBPVP8 ", "image/webp"),
            (b" \n<!DOCTYPE html>", "text/html; charset=utf-8"),
            (b"<body class=x>", "text/html; charset=utf-8"),
            (b"<bodyless>", TEXT),
            (b"<?xml version=\"1.0\"?>", "text/xml; charset=utf-8"),
        ] {
            assert_eq!(sniff(content), media_type, "{content:?}");
        }
    }

    #[test]
    fn names_survive_in_headers() {
        for (name, value) in [
            ("a.txt", "inline; filename=a.txt"),
            ("a b.txt", "inline; filename=\"a b.txt\""),
            ("a\"\\", "inline; filename=\"a\\\"\\\\\""),
            ("ä.txt", "inline; filename*=utf-8''%C3%A4.txt"),
            ("a\r\nb", "inline; filename*=utf-8''a%0D%0Ab"),
        ] {
            assert_eq!(disposition(name), value);
        }
    }
}
