//! What a client is told about one file.

use std::{collections::BTreeMap, io, path::Path};

use rustix::fs::{FileType, Stat};

use super::metadata;
use crate::{paths::base_name, users::Users};

/// Some file systems (btrfs) report 0 for a directory, which clients take for a failure.
const MIN_DIRECTORY_SIZE: i64 = 4096;

/// What a path leads to: for a symbolic link its final target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// Sockets, pipes, devices, and links that lead nowhere.
    Other,
}

impl From<FileType> for Kind {
    fn from(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub path: String,
    /// Bytes; of a symbolic link the length of its text.
    pub size: i64,
    /// The nine permission bits; of a link those of its target.
    pub mode: u32,
    pub permissions: String,
    pub owner: String,
    pub group: String,
    /// Seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Set for symbolic links: where they lead in the end, or the link itself if nowhere.
    pub symlink_target: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

impl Entry {
    /// Describes the file at `path` and shows it as `shown`.
    pub fn read(path: &Path, shown: String, users: &Users) -> io::Result<Self> {
        let stat = rustix::fs::lstat(path)?;
        Ok(Self::from_stat(path, shown, &stat, users))
    }

    pub(super) fn from_stat(path: &Path, shown: String, stat: &Stat, users: &Users) -> Self {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let (mut kind, mut mode) = (Kind::from(file_type), stat.st_mode & 0o777);
        let mut symlink_target = None;
        if file_type == FileType::Symlink {
            (kind, mode) = match rustix::fs::stat(path) {
                Ok(target) => {
                    (Kind::from(FileType::from_raw_mode(target.st_mode)), target.st_mode & 0o777)
                }
                Err(_) => (Kind::Other, 0),
            };
            symlink_target = Some(match std::fs::canonicalize(path) {
                Ok(target) => target.to_string_lossy().into_owned(),
                Err(_) => shown.clone(),
            });
        }
        let size = match file_type {
            FileType::Directory => stat.st_size.max(MIN_DIRECTORY_SIZE),
            _ => stat.st_size,
        };
        let metadata = match kind {
            Kind::File | Kind::Directory => metadata::read(path),
            // The kernel keeps user attributes on files and directories only.
            Kind::Other => BTreeMap::new(),
        };
        Self {
            name: base_name(&shown).to_owned(),
            kind,
            size,
            mode,
            permissions: permissions(stat.st_mode),
            owner: named(users.user_name(stat.st_uid), stat.st_uid),
            group: named(users.group_name(stat.st_gid), stat.st_gid),
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            symlink_target,
            metadata,
            path: shown,
        }
    }

    /// Roughly how many bytes this takes in memory and on the wire.
    pub(super) fn weight(&self) -> usize {
        let metadata: usize =
            self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        let target = self.symlink_target.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.name.len() + self.path.len() + target + metadata + 256
    }
}

fn named(name: Option<&str>, id: u32) -> String {
    name.map_or_else(|| id.to_string(), str::to_owned)
}

/// Renders a mode as Go's `FileMode.String` does, which is what clients are used to.
fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(11);
    text.push_str(match FileType::from_raw_mode(mode) {
        FileType::Directory => "d",
        FileType::Symlink => "L",
        FileType::BlockDevice | FileType::CharacterDevice => "D",
        FileType::Fifo => "p",
        FileType::Socket => "S",
        _ => "",
    });
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g')] {
        if mode & bit != 0 {
            text.push(letter);
        }
    }
    if FileType::from_raw_mode(mode) == FileType::CharacterDevice {
        text.push('c');
    }
    if mode & 0o1000 != 0 {
        text.push('t');
    }
    if text.is_empty() {
        text.push('-');
    }
    for (index, letter) in "rwxrwxrwx".chars().enumerate() {
        text.push(if mode & (1 << (8 - index)) != 0 { letter } else { '-' });
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn read(path: &Path) -> Entry {
        Entry::read(path, path.to_str().unwrap().to_owned(), &Users::load()).unwrap()
    }

    #[test]
    fn permissions_look_like_go() {
        for (mode, text) in [
            (0o100644, "-rw-r--r--"),
            (0o040755, "drwxr-xr-x"),
            (0o120777, "Lrwxrwxrwx"),
            (0o041777, "dtrwxrwxrwx"),
            (0o104755, "urwxr-xr-x"),
            (0o102755, "grwxr-xr-x"),
            (0o010600, "prw-------"),
            (0o140755, "Srwxr-xr-x"),
            (0o060660, "Drw-rw----"),
            (0o020666, "Dcrw-rw-rw-"),
        ] {
            assert_eq!(permissions(mode), text, "{mode:o}");
        }
    }

    #[test]
    fn a_link_shows_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("file");
        fs::write(&file, "12345").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", root.join("inner")).unwrap();
        std::os::unix::fs::symlink("inner", root.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("broken")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();

        let link = read(&root.join("link"));
        assert_eq!(link.kind, Kind::File);
        assert_eq!((link.mode, link.size), (0o640, 5));
        assert_eq!(link.permissions, "Lrwxrwxrwx");
        assert_eq!(link.symlink_target.as_deref(), file.to_str());

        for name in ["broken", "loop"] {
            let entry = read(&root.join(name));
            assert_eq!((entry.kind, entry.mode), (Kind::Other, 0));
            assert_eq!(entry.symlink_target.as_deref(), root.join(name).to_str());
        }
        let plain = read(&file);
        assert_eq!((plain.symlink_target, plain.size), (None, 5));
        assert!(read(&root).size >= 4096);
    }
}
