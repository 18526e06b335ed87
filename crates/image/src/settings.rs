//! The files that every template has, whatever it is made from.

use std::{fs, io, path::Path};

use crate::{
    error::{Error, Result},
    tree::{make_dir, write_file},
};

/// A command runs in a login shell, so this file is on the path of every command: nothing in it
/// may fork. (Debian's own runs `id`, about a millisecond.)
const PROFILE: &str = "\
# System-wide start of every login shell.
if [ \"${EUID:-$(id -u)}\" -eq 0 ]; then
  PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"
else
  PATH=\"/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games\"
fi
export PATH

if [ \"${PS1-}\" ] && [ \"${BASH-}\" ] && [ \"$BASH\" != /bin/sh ] && [ -r /etc/bash.bashrc ]; then
  . /etc/bash.bashrc
fi

for i in /etc/profile.d/*.sh; do
  if [ -r \"$i\" ]; then
    . \"$i\"
  fi
done
unset i

# bash reads ~/.profile by itself unless one of these hides it.
if [ \"${BASH-}\" ] && { [ -r ~/.bash_profile ] || [ -r ~/.bash_login ]; } && [ -r ~/.profile ]; then
  . ~/.profile
fi
";

/// Debian's runs `mesg`, another millisecond.
const ROOT_PROFILE: &str = "\
if [ \"${BASH-}\" ] && [ -f ~/.bashrc ]; then
  . ~/.bashrc
fi
";

/// `!fqdn`: Debian's sudo otherwise looks its own host name up in the DNS at every call.
const SUDOERS: &str = "\
Defaults !fqdn
user ALL=(ALL:ALL) NOPASSWD: ALL
";

/// A sandbox is one program's machine: `pip install x` works there, as it does in E2B's image.
const PIP: &str = "\
[global]
break-system-packages = true
";

const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
";

/// Path below the root, mode, content. All belong to root.
pub(crate) const FILES: [(&str, u32, &str); 9] = [
    ("etc/profile", 0o644, PROFILE),
    ("etc/profile.d/shell.sh", 0o644, "export SHELL=/bin/bash\n"),
    ("etc/sudoers.d/user", 0o440, SUDOERS),
    ("etc/pip.conf", 0o644, PIP),
    ("etc/hostname", 0o644, "sandbox\n"),
    ("etc/hosts", 0o644, HOSTS),
    ("etc/machine-id", 0o444, ""),
    ("etc/resolv.conf", 0o644, ""),
    ("root/.profile", 0o644, ROOT_PROFILE),
];

/// Writes [`FILES`] below `root`, over what is there, and says in `/.e2b` which template it is.
pub(crate) fn write(root: &Path, template: &str) -> Result<()> {
    let marker = format!("ENV_ID={template}\nTEMPLATE_ID={template}\nBUILD_ID={template}\n");
    for (path, mode, text) in FILES.into_iter().chain([(".e2b", 0o644, marker.as_str())]) {
        let path = root.join(path);
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            make_dir(parent, 0o755)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => write_file(&path, mode, text)?,
        }
    }
    Ok(())
}
