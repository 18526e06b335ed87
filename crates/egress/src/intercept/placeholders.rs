//! Placeholders that a sandbox sends, and the values that take their places.
//!
//! Searched are the values of headers, user name and password of basic authentication, and the query
//! of the target. Paths and bodies are not.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use http::{HeaderValue, Request, Uri, uri::PathAndQuery};
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use soulbox_model::{
    SecretValue,
    network::{Domain, Egress, Marker, SecretName},
};
use zeroize::Zeroizing;

use super::scrub::Scrub;
use crate::secrets::{Secrets, usable};

/// The one port at which a host gets a value: whoever answers at another one may be somebody else.
pub(super) const PORT: u16 = 443;
/// What values may add to one request, in bytes.
const MOST: usize = 64 * 1024;
/// What stays as it is in a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// With padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a request goes.
pub(super) struct To<'a> {
    pub(super) host: &'a Domain,
    pub(super) port: u16,
    /// Over TLS whose certificate is verified.
    pub(super) sealed: bool,
}

impl To<'_> {
    /// Whether what is secret may go there.
    pub(super) fn takes_secrets(&self) -> bool {
        self.sealed && self.port == PORT
    }
}

/// Puts values in the places of the placeholders that `to` is meant for; others stay.
///
/// What must not come back is added to `scrub`, whether or not this request holds it: an earlier one
/// may have left it there.
///
/// # Errors
/// Why the request must not be sent, without any value in it.
pub(super) async fn fill<B>(
    secrets: &Secrets,
    egress: &Egress,
    to: &To<'_>,
    request: &mut Request<B>,
    scrub: &mut Scrub,
) -> Result<(), String> {
    let mut values = Values::default();
    for grant in egress.grants.iter().filter(|grant| grant.is_for(to.host)) {
        let (host, secret) = (to.host, &grant.secret);
        let used = holds(request, &grant.marker);
        if used && !to.takes_secrets() {
            return Err(format!(
                "the placeholder of secret `{secret}` only works over TLS at port {PORT}; use \
                 https://{host}"
            ));
        }
        let held = secrets.find(secret).await?;
        if let Some(held) = &held {
            // Wherever it is bound to by now: the host may have it from before.
            scrub.add(held.value.clone());
            let form = utf8_percent_encode(held.value.expose(), ENCODED).to_string();
            // None is sent that is longer than a value may be.
            SecretValue::new(form).into_iter().for_each(|form| scrub.add(form));
        }
        if used {
            let value = usable(held, secret, host)?.value.clone();
            values.known.push(Known { marker: &grant.marker, secret, value });
        }
    }
    values.put_in(request)?;
    values.credentials.into_iter().for_each(|form| scrub.add(form));
    Ok(())
}

/// Whether a value would be put in for `marker`.
fn holds<B>(request: &Request<B>, marker: &Marker) -> bool {
    let holds = |text: &[u8]| memmem::find(text, marker.as_str().as_bytes()).is_some();
    let in_header = |value: &HeaderValue| {
        holds(value.as_bytes()) || Basic::of(value).is_some_and(|basic| holds(&basic.0))
    };
    request.headers().values().any(in_header)
        || request.uri().query().is_some_and(|query| holds(query.as_bytes()))
}

/// Values for one request.
#[derive(Default)]
struct Values<'a> {
    known: Vec<Known<'a>>,
    /// Bytes that were added.
    added: usize,
    /// Of basic authentication, as they are sent.
    credentials: Vec<SecretValue>,
}

struct Known<'a> {
    marker: &'a Marker,
    secret: &'a SecretName,
    value: SecretValue,
}

impl<'a> Values<'a> {
    fn put_in<B>(&mut self, request: &mut Request<B>) -> Result<(), String> {
        if self.known.is_empty() {
            return Ok(());
        }
        for value in request.headers_mut().values_mut() {
            let filled = match self.replaced(value.as_bytes(), header)? {
                Some(filled) => Some(filled),
                None => self.basic(value)?,
            };
            if let Some(filled) = filled {
                *value = HeaderValue::from_bytes(&filled)
                    .map_err(|_| "a placeholder stands where its value does not fit".to_owned())?;
                value.set_sensitive(true);
            }
        }
        if let Some(query) = request.uri().query()
            && let Some(filled) = self.replaced(query.as_bytes(), encoded)?
        {
            *request.uri_mut() = with_query(request.uri(), &filled)?;
        }
        Ok(())
    }

    /// Credentials of basic authentication with values in them, if placeholders were.
    fn basic(&mut self, header_value: &HeaderValue) -> Result<Option<Filled>, String> {
        let Some(Basic(plain)) = Basic::of(header_value) else { return Ok(None) };
        let colon = plain.iter().position(|b| *b == b':').unwrap_or(plain.len());
        let (user, password) = plain.split_at(colon);
        let (new_user, new_password) =
            (self.replaced(user, user_name)?, self.replaced(password, header)?);
        if new_user.is_none() && new_password.is_none() {
            return Ok(None);
        }
        let mut all = Zeroizing::new(new_user.as_deref().map_or(user, Vec::as_slice).to_vec());
        all.extend_from_slice(new_password.as_deref().map_or(password, Vec::as_slice));
        let credentials = STANDARD.encode(&*all);
        let filled = Zeroizing::new(format!("Basic {credentials}").into_bytes());
        let looked_for = SecretValue::new(credentials).map_err(|_| {
            format!("its credentials would have more than {} bytes", SecretValue::MAX)
        })?;
        self.credentials.push(looked_for);
        Ok(Some(filled))
    }

    /// `text` with what `form` makes of values in it; `None` where it holds no placeholder.
    fn replaced(&mut self, text: &[u8], form: Form) -> Result<Option<Filled>, String> {
        let mut filled = Zeroizing::new(Vec::new());
        let mut rest = text;
        let mut seen = 0;
        while let Some(at) = memmem::find(&rest[seen..], Marker::PREFIX.as_bytes()) {
            let (before, candidate) = rest.split_at(seen + at);
            let found = candidate.split_at_checked(Marker::LENGTH).and_then(|(marker, behind)| {
                let is = |known: &&Known<'_>| known.marker.as_str().as_bytes() == marker;
                Some((self.known.iter().find(is)?, behind))
            });
            let Some((known, behind)) = found else {
                seen += at + Marker::PREFIX.len();
                continue;
            };
            let value = form(&known.value)
                .ok_or_else(|| format!("secret `{}` does not fit there", known.secret))?;
            self.added += value.len();
            if self.added > MOST {
                return Err(format!("the values of its placeholders add more than {MOST} bytes"));
            }
            filled.extend_from_slice(before);
            filled.extend_from_slice(value.as_bytes());
            (rest, seen) = (behind, 0);
        }
        if rest.len() == text.len() {
            return Ok(None);
        }
        filled.extend_from_slice(rest);
        Ok(Some(filled))
    }
}

/// Puts one value in, as if it had been resolved.
pub(crate) fn put_in<B>(
    (marker, secret): (&Marker, &SecretName),
    value: SecretValue,
    request: &mut Request<B>,
) -> Result<(), String> {
    let known = vec![Known { marker, secret, value }];
    Values { known, ..Values::default() }.put_in(request)
}

type Filled = Zeroizing<Vec<u8>>;

/// How a value is written in one place; `None` where it would mean something else there.
type Form = fn(&SecretValue) -> Option<Zeroizing<String>>;

fn header(value: &SecretValue) -> Option<Zeroizing<String>> {
    value.as_header().map(|text| Zeroizing::new(text.to_owned()))
}

/// It ends at a colon.
fn user_name(value: &SecretValue) -> Option<Zeroizing<String>> {
    header(value).filter(|text| !text.contains(':'))
}

fn encoded(value: &SecretValue) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(utf8_percent_encode(value.expose(), ENCODED).to_string()))
}

/// What `Authorization: Basic` holds, decoded.
struct Basic(Zeroizing<Vec<u8>>);

impl Basic {
    fn of(value: &HeaderValue) -> Option<Self> {
        let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        LENIENT.decode(credentials.trim()).ok().map(Zeroizing::new).map(Self)
    }
}

fn with_query(uri: &Uri, query: &[u8]) -> Result<Uri, String> {
    let mut target = Zeroizing::new(uri.path().as_bytes().to_vec());
    target.push(b'?');
    target.extend_from_slice(query);
    let bad = || "the target would be too long with the values of its placeholders".to_owned();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target.as_slice()).map_err(|_| bad())?);
    Uri::from_parts(parts).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use proptest::prelude::*;
    use soulbox_model::network::{Grant, Pattern};

    use super::*;
    use crate::{Denial, Held, Owner};

    const VALUE: &str = "s3cr:t/+é %&";

    /// Has one secret, or none, or cannot say.
    struct Team(Result<Option<Held>, String>);

    #[async_trait]
    impl Owner for Team {
        fn denied(&self, _: Denial) {}

        async fn secret(&self, _: &SecretName) -> Result<Option<Held>, String> {
            self.0.clone()
        }
    }

    fn held(value: &str, hosts: &[&str]) -> Held {
        let hosts = hosts.iter().map(|host| host.parse::<Pattern>().unwrap()).collect();
        Held { value: SecretValue::new(value.to_owned()).unwrap(), hosts }
    }

    fn granted(marker: &Marker) -> Egress {
        let grant = Grant {
            marker: marker.clone(),
            secret: "key".parse().unwrap(),
            hosts: vec!["*.example.com".parse().unwrap()],
        };
        Egress { grants: vec![grant], ..Egress::default() }
    }

    /// What the host gets, and what is looked for in its answer.
    fn sent(
        value: Option<&str>,
        marker: &Marker,
        there: (&str, u16, bool),
        request: Request<()>,
    ) -> Result<(Request<()>, Scrub), String> {
        sent_by(
            Team(Ok(value.map(|value| held(value, &["*.example.com"])))),
            marker,
            there,
            request,
        )
    }

    fn sent_by(
        team: Team,
        marker: &Marker,
        (host, port, sealed): (&str, u16, bool),
        mut request: Request<()>,
    ) -> Result<(Request<()>, Scrub), String> {
        let (egress, host) = (granted(marker), host.parse().unwrap());
        let to = To { host: &host, port, sealed };
        let mut scrub = Scrub::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let secrets = Secrets::new(Arc::new(team));
        runtime.block_on(fill(&secrets, &egress, &to, &mut request, &mut scrub))?;
        Ok((request, scrub))
    }

    const THERE: (&str, u16, bool) = ("api.example.com", 443, true);

    fn request(target: &str, headers: &[(&str, String)]) -> Request<()> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        request.body(()).unwrap()
    }

    fn masked(scrub: &Scrub, text: &str) -> String {
        let mut value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
        scrub.header(&mut value);
        String::from_utf8(value.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_value_takes_every_place_that_is_searched() {
        let m = Marker::random();
        let asked = request(
            &format!("https://api.example.com/{m}?a={m}&{m}=1"),
            &[
                ("authorization", format!("Bearer {m}")),
                ("x-twice", format!("<{m}{m}>")),
                ("x-none", "soulbox_secret_soulbox_secret_".to_owned()),
            ],
        );
        let (got, scrub) = sent(Some(VALUE), &m, THERE, asked).unwrap();
        let get = |name: &str| std::str::from_utf8(got.headers()[name].as_bytes()).unwrap();
        assert_eq!(get("authorization"), format!("Bearer {VALUE}"));
        assert!(got.headers()["authorization"].is_sensitive());
        assert_eq!(get("x-twice"), format!("<{VALUE}{VALUE}>"));
        assert_eq!(get("x-none"), "soulbox_secret_soulbox_secret_");
        let encoded = "s3cr%3At%2F%2B%C3%A9%20%25%26";
        assert_eq!(
            got.uri().path_and_query().unwrap().as_str(),
            format!("/{m}?a={encoded}&{encoded}=1")
        );
        assert_eq!(masked(&scrub, encoded), "*".repeat(encoded.len()));
        assert_eq!(masked(&scrub, VALUE), "*".repeat(VALUE.len()));
    }

    #[test]
    fn basic_authentication_is_looked_into() {
        let m = Marker::random();
        let value = "p:ssw/rd";
        for (plain, expected) in [
            (format!("me:{m}"), format!("me:{value}")),
            (format!("me:a{m}b:"), format!("me:a{value}b:")),
        ] {
            for coded in [STANDARD.encode(&plain), STANDARD.encode(&plain).replace('=', "")] {
                let asked = request("/", &[("authorization", format!("basic {coded}"))]);
                let (got, scrub) = sent(Some(value), &m, THERE, asked).unwrap();
                let expected = STANDARD.encode(&expected);
                assert_eq!(got.headers()["authorization"], format!("Basic {expected}"));
                assert_eq!(masked(&scrub, &expected), "*".repeat(expected.len()));
            }
        }
        let user = |value: &str| {
            let coded = STANDARD.encode(format!("{m}:x"));
            sent(
                Some(value),
                &m,
                THERE,
                request("/", &[("authorization", format!("Basic {coded}"))]),
            )
        };
        let got = user("token1").unwrap().0;
        assert_eq!(
            got.headers()["authorization"],
            format!("Basic {}", STANDARD.encode("token1:x"))
        );
        // It would end the user name early.
        assert!(user("to:ken").unwrap_err().contains("does not fit"));
    }

    #[test]
    fn credentials_too_long_to_be_looked_for_are_not_sent() {
        let m = Marker::random();
        let sent_with = |length: usize| {
            let coded = STANDARD.encode(format!("me:{m}"));
            let asked = request("/", &[("authorization", format!("Basic {coded}"))]);
            sent(Some(&"v".repeat(length)), &m, THERE, asked)
        };
        // With `me:` before it, as many bytes as a value has in base64.
        let most = SecretValue::MAX / 4 * 3 - 3;
        let (got, scrub) = sent_with(most).unwrap();
        let sent = got.headers()["authorization"].to_str().unwrap();
        assert_eq!(masked(&scrub, sent), format!("Basic {}", "*".repeat(SecretValue::MAX)));
        let refused = sent_with(most + 1).unwrap_err();
        assert!(refused.contains("credentials") && refused.contains("65536"), "{refused}");
    }

    #[test]
    fn elsewhere_it_stays_and_unsealed_it_is_refused() {
        let m = Marker::random();
        let asked = || request(&format!("/?{m}"), &[("authorization", format!("Bearer {m}"))]);
        let (got, scrub) = sent(Some(VALUE), &m, ("example.com", 443, true), asked()).unwrap();
        assert_eq!(got.headers(), asked().headers());
        assert_eq!(got.uri(), asked().uri());
        assert!(scrub.is_empty());
        for there in [("a.example.com", 443, false), ("a.example.com", 8443, true)] {
            let refused = sent(Some(VALUE), &m, there, asked()).unwrap_err();
            assert!(refused.contains("port 443") && !refused.contains(VALUE), "{refused}");
            // Nothing is put in, but what was left there before is looked for.
            let (_, scrub) = sent(Some(VALUE), &m, there, request("/", &[])).unwrap();
            assert!(!scrub.is_empty());
        }
        let other = Marker::random();
        let (got, _) = sent(Some(VALUE), &other, THERE, asked()).unwrap();
        assert_eq!(got.headers(), asked().headers());
    }

    #[test]
    fn a_secret_that_is_gone_is_told_to_who_uses_it() {
        let m = Marker::random();
        let asked = request("/", &[("x", m.to_string())]);
        assert_eq!(sent(None, &m, THERE, asked).unwrap_err(), "secret `key` does not exist");
        assert!(sent(None, &m, THERE, request("/", &[])).is_ok());
    }

    #[test]
    fn what_a_host_may_have_from_before_is_looked_for() {
        let m = Marker::random();
        let narrowed = || Team(Ok(Some(held(VALUE, &["www.example.com"]))));
        let (_, scrub) = sent_by(narrowed(), &m, THERE, request("/", &[])).unwrap();
        assert_eq!(masked(&scrub, VALUE), "*".repeat(VALUE.len()));
        let asked = request("/", &[("x", m.to_string())]);
        let refused = sent_by(narrowed(), &m, THERE, asked).unwrap_err();
        assert!(refused.contains("secret `key` to api.example.com"), "{refused}");
    }

    #[test]
    fn where_nobody_knows_what_to_look_for_nothing_is_sent() {
        let m = Marker::random();
        let busy = || Team(Err("busy".to_owned()));
        assert_eq!(sent_by(busy(), &m, THERE, request("/", &[])).unwrap_err(), "busy");
        // Of a host that it is not for, nobody asks.
        let elsewhere = ("example.net", 443, true);
        assert!(sent_by(busy(), &m, elsewhere, request("/", &[])).is_ok());
    }

    #[test]
    fn no_value_breaks_a_request_and_none_makes_it_huge() {
        let m = Marker::random();
        let asked = || request("/", &[("x", format!("a {m}"))]);
        let refused = sent(Some("a\r\nx-admin: 1"), &m, THERE, asked()).unwrap_err();
        assert!(refused.contains("`key`") && !refused.contains("x-admin"), "{refused}");
        let long = "v".repeat(SecretValue::MAX);
        assert!(sent(Some(&long), &m, THERE, asked()).is_ok());
        let many = request("/", &[("x", m.to_string().repeat(2))]);
        assert!(sent(Some(&long), &m, THERE, many).unwrap_err().contains("65536"));
        let target = request(&format!("/?{m}"), &[]);
        assert!(sent(Some(&"/".repeat(22_000)), &m, THERE, target).unwrap_err().contains("65536"));
        let target = request(&format!("/?{}{m}", "q".repeat(4000)), &[]);
        assert!(
            sent(Some(&"v".repeat(63_000)), &m, THERE, target).unwrap_err().contains("too long")
        );
    }

    proptest! {
        #[test]
        fn only_the_placeholder_changes(
            before in "[!-~]{0,30}", between in "[!-~]{0,30}", value in "[!-~]{6,20}",
        ) {
            let m = Marker::random();
            let text = format!("x{before}{m}{between}{m}");
            let (got, _) = sent(Some(&value), &m, THERE, request("/", &[("x", text)])).unwrap();
            let expected = format!("x{before}{value}{between}{value}");
            prop_assert_eq!(got.headers()["x"].as_bytes(), expected.as_bytes());
        }
    }
}
