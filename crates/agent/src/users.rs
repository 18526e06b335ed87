//! The users and groups of the sandbox, read from `/etc/passwd` and `/etc/group`.
//!
//! The agent is linked statically, so it cannot use NSS; it reads the two files itself, anew for
//! every request: users may appear while the sandbox runs. Both files belong to whoever is root
//! inside, so they may be anything: a FIFO, endless, or not text.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
};

/// The largest `/etc/passwd` or `/etc/group` that is read, in bytes; the rest is ignored.
const MAX_DATABASE: u64 = 1024 * 1024;

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

impl User {
    fn root() -> Self {
        Self {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            home: "/root".to_owned(),
            shell: "/bin/sh".to_owned(),
        }
    }
}

#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// What `/etc/passwd` and `/etc/group` said at one moment.
#[derive(Debug)]
pub struct Users {
    users: Vec<User>,
    groups: Vec<Group>,
    /// Why the users are not known.
    unreadable: Option<Unreadable>,
}

/// There is a file of users, and it cannot be read: so it is with a disk that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{PASSWD} cannot be read: {0}")]
pub struct Unreadable(String);

/// Why there is no user of some name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoUser {
    Unknown,
    Unreadable(Unreadable),
}

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

impl Users {
    /// Reads both files. A root file system without `/etc/passwd` has the user `root` alone.
    pub fn load() -> Self {
        Self::from(read_bounded(PASSWD), &read_bounded(GROUP).unwrap_or_default())
    }

    fn from(passwd: io::Result<Vec<u8>>, group: &[u8]) -> Self {
        match passwd {
            Ok(passwd) => Self::parse(&passwd, group),
            Err(error) => {
                let mut users = Self::parse(b"", group);
                users.users.push(User::root());
                let missing = error.kind() == io::ErrorKind::NotFound;
                users.unreadable = (!missing).then(|| Unreadable(error.to_string()));
                users
            }
        }
    }

    /// Lines that do not parse are skipped, as NSS does.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self {
            users: lines(passwd).filter_map(|line| parse_user(&line)).collect(),
            groups: lines(group).filter_map(|line| parse_group(&line)).collect(),
            unreadable: None,
        }
    }

    /// # Errors
    /// If there is none, or nobody can tell.
    pub fn find(&self, name: &str) -> Result<&User, NoUser> {
        self.user(name)
            .ok_or_else(|| self.unreadable.clone().map_or(NoUser::Unknown, NoUser::Unreadable))
    }

    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.iter().find(|user| user.uid == uid).map(|user| user.name.as_str())
    }

    pub fn group_name(&self, gid: u32) -> Option<&str> {
        self.groups.iter().find(|group| group.gid == gid).map(|group| group.name.as_str())
    }

    /// The primary group first, then every group that lists the user, each once.
    pub fn groups_of(&self, user: &User) -> Vec<u32> {
        let mut gids = vec![user.gid];
        for group in &self.groups {
            if group.members.contains(&user.name) && !gids.contains(&group.gid) {
                gids.push(group.gid);
            }
        }
        gids
    }
}

fn read_bounded(path: &str) -> io::Result<Vec<u8>> {
    // A FIFO in its place must not block the agent.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
    let file: File =
        OpenOptions::new().read(true).custom_flags(nonblock.cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(MAX_DATABASE) as usize + 1);
    file.take(MAX_DATABASE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().to_owned())
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '+', '-']))
}

fn parse_user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let _comment = fields.next()?;
    let home = fields.next()?;
    let shell = fields.next().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
    Some(User {
        name: name.to_owned(),
        uid,
        gid,
        home: if home.starts_with('/') { home } else { "/" }.to_owned(),
        shell: shell.to_owned(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let _password = fields.next()?;
    let gid = fields.next()?.parse().ok()?;
    let members = fields.next().unwrap_or_default().split(',');
    Some(Group {
        name: name.to_owned(),
        gid,
        members: members.filter(|member| !member.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # comment\n\
        broken line\n\
        huge:x:99999999999:1::/home/huge:/bin/sh\n\
        \xff\xfe:x:7:7::/x:/bin/sh\n\
        user:x:1000:1001:,,,:/home/user:/bin/bash\n\
        nohome:x:1002:1002:::\n";
    const GROUPS: &[u8] =
        b"root:x:0:\nsudo:x:27:user,other\nuser:x:1001:user\naudio:x:29:other,user\nbad:x:y:user\n";

    #[test]
    fn reads_users_and_skips_what_is_no_user() {
        let users = Users::parse(LINES, GROUPS);
        let user = users.user("user").unwrap();
        assert_eq!((user.uid, user.gid), (1000, 1001));
        assert_eq!((user.home.as_str(), user.shell.as_str()), ("/home/user", "/bin/bash"));
        assert_eq!(users.user_name(0), Some("root"));
        assert_eq!(users.user_name(5), None);
        assert!(users.user("broken line").is_none());
        assert!(users.user("huge").is_none());
        let nohome = users.user("nohome").unwrap();
        assert_eq!((nohome.home.as_str(), nohome.shell.as_str()), ("/", "/bin/sh"));
    }

    #[test]
    fn groups_start_with_the_primary_one() {
        let users = Users::parse(LINES, GROUPS);
        let user = users.user("user").unwrap();
        assert_eq!(users.groups_of(user), vec![1001, 27, 29]);
        assert_eq!(users.group_name(27), Some("sudo"));
        assert_eq!(users.group_name(4), None);
    }

    #[test]
    fn a_file_of_users_that_cannot_be_read_is_no_absent_user() {
        // Nothing is mapped at address 0: the kernel answers EIO, as it does for a disk that failed.
        let users = Users::from(read_bounded("/proc/self/mem"), GROUPS);
        let Err(NoUser::Unreadable(why)) = users.find("user") else { panic!("{users:?}") };
        assert!(why.to_string().contains("Input/output error"), "{why}");
        assert_eq!(users.find("root"), Ok(&User::root()));
        let users = Users::from(read_bounded("/nowhere/passwd"), GROUPS);
        assert_eq!(users.find("user"), Err(NoUser::Unknown));
        assert_eq!(Users::parse(LINES, GROUPS).find("nobody"), Err(NoUser::Unknown));
    }

    #[test]
    fn a_fifo_in_place_of_a_file_does_not_block() {
        let dir = std::env::temp_dir().join(format!("users-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let fifo = dir.join("passwd");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert!(read_bounded(fifo.to_str().unwrap()).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
