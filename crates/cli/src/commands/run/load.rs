//! From a directory to what is asked of the server.

use std::path::Path;

use soulbox_model::Port;
use soulbox_spec::{BaseImage, Project};
use soulbox_wire::rest::{Network, NewSandboxV2, RequestRules, SandboxShape};

use crate::{
    args::{project::ProjectArgs, run::Which},
    commands::{project, sandbox::lifecycle},
    failure::{Failure, Result},
};

/// Labels by which the sandbox of a project is found again.
pub(super) const NAME: &str = "soulbox-project";
pub(super) const DIRECTORY: &str = "soulbox-directory";
/// Ports that have URLs, with commas between them.
pub(super) const PORTS: &str = "soulbox-ports";
/// Names of its own, with commas between them.
pub(super) const DOMAINS: &str = "soulbox-domains";
/// There where nothing but memory can be written.
pub(super) const READ_ONLY: &str = "soulbox-read-only";

/// Fields of what is asked of the server, and the keys that they come from.
const KEYS: [(&str, &str); 6] = [
    ("timeout", "resources.timeout"),
    ("soulbox.cpuMillis", "resources.cpu"),
    ("soulbox.memoryBytes", "resources.memory"),
    ("soulbox.diskBytes", "resources.disk"),
    ("envVars", "environment"),
    ("domains", "network.domains"),
];

/// A refusal of the server in the words of the file.
pub(super) fn by_key(mut failure: Failure) -> Failure {
    if let Failure::Answer { message, .. } = &mut failure
        && let Some((field, why)) = message.split_once(": ")
        && let Some((_, key)) = KEYS.iter().find(|(name, _)| *name == field)
    {
        *message = format!("{key}: {why}");
    }
    failure
}

/// A project in its directory.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) project: Project,
    /// Absolute.
    pub(super) dir: std::path::PathBuf,
}

impl Loaded {
    /// Reads the project of a directory, with what stands in for its file; held against `cores` where they are known.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn open(which: &Which, overrides: &[String], cores: Option<u32>) -> Result<Self> {
        let dir = absolute(&which.project)?;
        let args = ProjectArgs { directory: dir.clone(), set: overrides.to_vec() };
        let (_, project) = project::load(&args, cores)?;
        Ok(Self { project, dir })
    }

    pub(super) fn labels(&self) -> Vec<(String, String)> {
        let ports: Vec<String> = self.project.network.ports.iter().map(Port::to_string).collect();
        let mut labels = vec![
            (NAME.to_owned(), self.project.project.name.clone()),
            (DIRECTORY.to_owned(), self.dir.display().to_string()),
            (PORTS.to_owned(), ports.join(",")),
        ];
        if !self.project.network.domains.is_empty() {
            labels.push((DOMAINS.to_owned(), self.project.network.domains.join(",")));
        }
        if self.project.security.read_only {
            labels.push((READ_ONLY.to_owned(), "yes".to_owned()));
        }
        labels
    }

    /// What the sandbox of this project must be, on top of `template`.
    ///
    /// # Errors
    /// For a time that is too long.
    pub(super) fn sandbox(&self, template: String) -> Result<NewSandboxV2> {
        let limits = &self.project.resources;
        let project = &self.project;
        // The server resolves what the file may say.
        let env = project.environment.iter().map(|(name, text)| (name.clone(), text.to_string()));
        Ok(NewSandboxV2 {
            template_id: template,
            timeout: Some(lifecycle::seconds(limits.timeout)?),
            allow_internet_access: Some(project.network.allow_internet),
            network: lists(&project.network),
            metadata: Some(self.labels().into_iter().collect()),
            env_vars: Some(env.collect()),
            soulbox: Some(SandboxShape {
                cpu_millis: Some(limits.cpu_millis),
                memory_bytes: Some(limits.memory_bytes),
                disk_bytes: Some(limits.disk_bytes),
                no_setuid: !project.security.allow_sudo,
                read_only: project.security.read_only,
                ports: Some(project.network.ports.iter().map(|p| u32::from(p.get())).collect()),
                requests: Some(RequestRules::from(&project.network.requests))
                    .filter(|rules| *rules != RequestRules::default()),
            }),
            ..NewSandboxV2::default()
        })
    }

    /// The template that everything stands on.
    ///
    /// # Errors
    /// For what this server cannot do yet.
    pub(super) fn base(&self) -> Result<String> {
        let project = &self.project;
        let template = match &project.template.base_image {
            BaseImage::Template(name) => name.clone(),
            BaseImage::Image(image) => {
                return Err(Failure::Environment {
                    message: format!(
                        "template.base_image: `{image}` is an image, and this server \
                                      pulls none yet"
                    ),
                    hint: "name a template of the server: `soulbox template list`".into(),
                });
            }
        };
        if project.security.allow_docker {
            return Err(Failure::Environment {
                message:
                    "security.allow_docker: the native engine has no nested containers: what they \
                          need of the kernel is closed to sandboxes"
                        .into(),
                hint: "set it to false, or run the project on another engine".into(),
            });
        }
        Ok(template)
    }
}

/// What may be reached beside `allow_internet`, if anything is said of it.
fn lists(network: &soulbox_spec::Network) -> Option<Network> {
    let allow: Vec<_> = network.allow_out.iter().map(ToString::to_string).collect();
    let deny: Vec<_> = network.deny_out.iter().map(ToString::to_string).collect();
    let said = !allow.is_empty() || !deny.is_empty();
    said.then(|| Network { allow_out: Some(allow), deny_out: Some(deny), ..Network::default() })
}

pub(super) fn absolute(dir: &Path) -> Result<std::path::PathBuf> {
    dir.canonicalize().map_err(Failure::io(dir.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_key() {
        let told = |message: &str| {
            let body = format!(r#"{{"code": 400, "message": "{message}"}}"#);
            by_key(Failure::answer(400, body.as_bytes())).to_string()
        };
        let cases = [
            ("soulbox.cpuMillis: must be less", "resources.cpu: must be less"),
            ("timeout: cannot be greater", "resources.timeout: cannot be greater"),
            ("templateID: unknown: timeout", "templateID: unknown: timeout"),
            ("timeout", "timeout"),
        ];
        for (said, expected) in cases {
            assert_eq!(told(said), expected);
        }
    }
}
