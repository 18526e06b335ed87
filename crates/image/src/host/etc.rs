//! What the `host` template has in `/etc` besides the [settings](crate::settings) of every template
//! and what is [copied](super::copy): who exists, and who may become whom.

use std::{os::unix::fs::symlink, path::Path};

use super::copy;
use crate::{
    error::{Error, Result},
    tree::{make_dir, own, write_file},
};

const SHELL_PROFILE: &str = "\
if [ \"${BASH-}\" ] && [ -f ~/.bashrc ]; then
  . ~/.bashrc
fi
";

const BASHRC: &str = "\
case $- in
  *i*) ;;
  *) return ;;
esac
PS1='\\w \\$ '
";

/// In the home of every user.
pub(super) const DOT_FILES: [(&str, &str); 2] = [(".profile", SHELL_PROFILE), (".bashrc", BASHRC)];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
man:x:6:12:man:/var/cache/man:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
user:x:1000:1000::/home/user:/bin/bash
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
mail:x:8:
man:x:12:
kmem:x:15:
sudo:x:27:user
www-data:x:33:
shadow:x:42:
utmp:x:43:
video:x:44:
staff:x:50:
games:x:60:
users:x:100:
nogroup:x:65534:
user:x:1000:
";

/// `shadow` in [`GROUP`].
const SHADOW_GROUP: u32 = 42;

const SHADOW: &str = "\
root::19000:0:99999:7:::
daemon:*:19000:0:99999:7:::
nobody:*:19000:0:99999:7:::
user::19000:0:99999:7:::
";

const SUDOERS: &str = "\
Defaults env_reset
Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"
root ALL=(ALL:ALL) ALL
%sudo ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
";

const PAM: &str = "\
auth sufficient pam_rootok.so
auth required pam_unix.so nullok
account required pam_unix.so
password required pam_unix.so
session required pam_permit.so
";

const FILES: [(&str, u32, &str); 12] = [
    ("passwd", 0o644, PASSWD),
    ("group", 0o644, GROUP),
    ("shadow", 0o640, SHADOW),
    ("gshadow", 0o640, ""),
    ("sudoers", 0o440, SUDOERS),
    ("pam.d/other", 0o644, PAM),
    ("bash.bashrc", 0o644, BASHRC),
    ("shells", 0o644, "/bin/sh\n/bin/bash\n/usr/bin/bash\n"),
    ("skel/.profile", 0o644, SHELL_PROFILE),
    ("skel/.bashrc", 0o644, BASHRC),
    (
        "nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files myhostname dns\n",
    ),
    ("fstab", 0o644, ""),
];

/// All that [`write`] writes by itself.
pub(super) fn texts() -> impl Iterator<Item = String> {
    let files = FILES.iter().map(|(.., text)| *text);
    files.chain(DOT_FILES.iter().map(|(_, text)| *text)).map(str::to_owned)
}

pub(super) fn write(machine: &Path, etc: &Path) -> Result<()> {
    for (dir, mode) in
        [("sudoers.d", 0o750), ("pam.d", 0o755), ("skel", 0o755), ("profile.d", 0o755)]
    {
        make_dir(&etc.join(dir), mode)?;
    }
    for (name, mode, text) in FILES {
        write_file(&etc.join(name), mode, text)?;
    }
    own(&etc.join("shadow"), 0, SHADOW_GROUP)?;
    own(&etc.join("gshadow"), 0, SHADOW_GROUP)?;
    symlink("/proc/mounts", etc.join("mtab")).map_err(Error::io("link", etc.join("mtab")))?;
    copy::copy(&machine.join("etc"), etc)
}
