//! Where Debian's packages come from: the suite and mirrors that this machine's own apt uses.
//!
//! On a machine that is not Debian, or whose apt names no mirror that a sandbox could use too,
//! mmdebstrap's own default for the suite applies. Signatures are always checked against Debian's
//! archive keys, whatever the machine's sources say.

use std::{collections::BTreeMap, path::Path};

use tokio::process::Command;

use crate::{
    error::{Error, Result},
    tree,
};

/// Where a machine names no mirror of Debian's.
const DEFAULT_MIRRORS: [(&str, &str); 2] =
    [("http://deb.debian.org/debian", ""), ("http://deb.debian.org/debian-security", "-security")];

/// Used where the machine itself is not Debian.
const DEFAULT_SUITE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a machine may turn off for a mirror that lags behind; everything else that it changes
/// about trust is not taken over.
const DATE_CHECKS: [(&str, &str); 2] = [
    ("Acquire::Check-Valid-Until", "Acquire::Check-Valid-Until \"false\""),
    ("Acquire::Check-Date", "Acquire::Check-Date \"false\""),
];

const PROXIES: [(&str, &str); 2] =
    [("Acquire::http::Proxy", "http_proxy"), ("Acquire::https::Proxy", "https_proxy")];

#[derive(Debug, PartialEq, Eq)]
struct Mirror {
    uri: String,
    suite: String,
}

#[derive(Debug)]
pub(crate) struct Sources {
    suite: String,
    mirrors: Vec<Mirror>,
    settings: BTreeMap<String, String>,
}

impl Sources {
    pub async fn of_this_machine() -> Result<Self> {
        let release = tokio::fs::read_to_string("/etc/os-release").await.unwrap_or_default();
        let Some(suite) = debian_suite(&release) else {
            return Ok(Self::default());
        };
        let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
        let targets = ["indextargets", "--format", format, "Created-By: Packages"];
        let settings = ["dump", "--no-empty", "--format", "%f %v%n", "Acquire"];
        Ok(Self {
            mirrors: mirrors(&ask("apt-get", &targets).await?, &suite),
            settings: parse_settings(&ask("apt-config", &settings).await?),
            suite,
        })
    }

    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// mmdebstrap's mirror arguments.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        self.mirrors.iter().map(|mirror| entry(&mirror.uri, &mirror.suite))
    }

    /// Lines of a `sources.list`, which name mirrors in any case.
    pub fn list(&self) -> String {
        let defaults = DEFAULT_MIRRORS.iter().filter(|_| self.mirrors.is_empty());
        let defaults = defaults.map(|(uri, pocket)| entry(uri, &format!("{}{pocket}", self.suite)));
        self.entries().chain(defaults).map(|line| line + "\n").collect()
    }

    pub fn apt_options(&self) -> impl Iterator<Item = &'static str> {
        let off = |name: &str| self.settings.get(name).is_some_and(|value| is_false(value));
        DATE_CHECKS.iter().filter(move |(name, _)| off(name)).map(|(_, option)| *option)
    }

    /// The proxies of this machine's apt, as environment variables: so they leave no trace, and
    /// no password, in the template.
    pub fn proxies(&self) -> impl Iterator<Item = (&'static str, &str)> {
        PROXIES.iter().filter_map(|(name, variable)| {
            let proxy = self.settings.get(*name).filter(|proxy| *proxy != "DIRECT")?;
            Some((*variable, proxy.as_str()))
        })
    }

    /// Leaves the same sources in the new root, without passwords.
    pub fn write_into(&self, rootfs: &Path) -> Result<()> {
        if self.mirrors.is_empty() {
            return Ok(());
        }
        let apt = rootfs.join("etc/apt");
        // mmdebstrap's own list names the same, with passwords.
        tree::remove_file(&apt.join("sources.list"))?;
        let dir = apt.join("sources.list.d");
        tree::empty_dir(&dir)?;
        let lines = self.mirrors.iter().map(|m| entry(&without_password(&m.uri), &m.suite) + "\n");
        tree::write_file(&dir.join("debian.list"), 0o644, lines.collect::<String>())
    }
}

impl Default for Sources {
    fn default() -> Self {
        Self { suite: DEFAULT_SUITE.into(), mirrors: Vec::new(), settings: BTreeMap::new() }
    }
}

fn entry(uri: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {uri} {suite} main")
}

async fn ask(program: &'static str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").kill_on_drop(true);
    let output = command.output().await.map_err(Error::io("run", program))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The code name in `/etc/os-release` if it is Debian's.
fn debian_suite(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let mut lines = os_release.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned()).filter(|value| !value.is_empty())
    };
    field("ID").filter(|id| id == "debian")?;
    field("VERSION_CODENAME")
}

/// Debian's own entries among `targets`: a machine may also have others' for the same release.
fn mirrors(targets: &str, suite: &str) -> Vec<Mirror> {
    let suites = [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")];
    let mut found = Vec::new();
    for line in targets.lines() {
        let mut words = line.split(' ');
        let (Some(uri), Some(release), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        // The origin is unknown until the machine has fetched its package lists.
        let by_debian = match words.next().unwrap_or_default() {
            "" | "$(ORIGIN)" => {
                let path = uri.trim_end_matches('/');
                path.ends_with("/debian") || path.ends_with("/debian-security")
            }
            origin => origin == "Debian",
        };
        let reachable = uri.starts_with("http://") || uri.starts_with("https://");
        let mirror = Mirror { uri: uri.to_owned(), suite: release.to_owned() };
        let wanted = by_debian && reachable && suites.contains(&mirror.suite);
        if wanted && !found.contains(&mirror) {
            found.push(mirror);
        }
    }
    // Updates without the release itself would install nothing.
    if found.iter().any(|mirror| mirror.suite == suite) { found } else { Vec::new() }
}

fn parse_settings(dump: &str) -> BTreeMap<String, String> {
    let pairs = dump.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn is_false(value: &str) -> bool {
    matches!(value, "0" | "no" | "false" | "without" | "off" | "disable")
}

/// `http://user:secret@mirror/debian` without what stands before the `@`.
fn without_password(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let host_end = rest.find('/').unwrap_or(rest.len());
    let host_start = rest[..host_end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host_start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm-updates main Debian
http://mirror.example/debian/ bookworm contrib Debian
http://mirror.example/debian-security/ bookworm-security main Debian
http://apt.vendor.example/ bookworm main Vendor
https://deb.vendor.example/debian-tools/ bookworm main $(ORIGIN)
https://deb.other.example/node_20.x/ nodistro main . nodistro
mirror+file:///etc/apt/mirrors.list/ bookworm main Debian
http://mirror.example/debian/ trixie main Debian
";

    #[test]
    fn only_debians_own_entries_for_the_suite_are_taken() {
        let found: Vec<_> =
            mirrors(TARGETS, "bookworm").into_iter().map(|m| (m.uri, m.suite)).collect();
        let expected = [
            ("http://mirror.example/debian/", "bookworm"),
            ("http://mirror.example/debian/", "bookworm-updates"),
            ("http://mirror.example/debian-security/", "bookworm-security"),
        ];
        assert_eq!(found, expected.map(|(uri, suite)| (uri.to_owned(), suite.to_owned())));
    }

    #[test]
    fn a_machine_without_package_lists_is_known_by_the_path_of_its_mirror() {
        let targets = "http://mirror.example/debian/ bookworm main $(ORIGIN)\n\
                       http://apt.vendor.example/ bookworm main $(ORIGIN)\n";
        assert_eq!(mirrors(targets, "bookworm").len(), 1);
    }

    #[test]
    fn without_the_release_itself_the_default_applies() {
        let targets = "http://mirror.example/debian/ bookworm-updates main Debian\n";
        assert_eq!(mirrors(targets, "bookworm"), []);
    }

    #[test]
    fn the_suite_is_debians_or_none() {
        let bookworm = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(debian_suite(bookworm).as_deref(), Some("bookworm"));
        assert_eq!(debian_suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(debian_suite(""), None);
    }

    #[test]
    fn passwords_of_mirrors_do_not_reach_the_template() {
        let hidden = without_password("https://user:se@cret@mirror.example/debian/a@b");
        assert_eq!(hidden, "https://mirror.example/debian/a@b");
        assert_eq!(without_password("http://mirror/debian"), "http://mirror/debian");
    }

    #[test]
    fn only_settings_about_dates_and_proxies_are_taken_over() {
        let dump = "Acquire::Check-Valid-Until false\nAcquire::AllowInsecureRepositories true\n\
                    Acquire::http::Proxy http://proxy:3128\nAcquire::https::Proxy DIRECT\n";
        let sources = Sources { settings: parse_settings(dump), ..Sources::default() };
        let options: Vec<_> = sources.apt_options().collect();
        assert_eq!(options, ["Acquire::Check-Valid-Until \"false\""]);
        let proxies: Vec<_> = sources.proxies().collect();
        assert_eq!(proxies, [("http_proxy", "http://proxy:3128")]);
    }
}
