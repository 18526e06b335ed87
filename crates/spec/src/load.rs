//! The project file of a directory, and paths that stay in it.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Uid, fchmod,
        fchown, openat, openat2, renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use crate::{Diagnostics, Override, Project, validate};

/// What a project file is called.
pub const FILE_NAME: &str = "soulbox.toml";
/// The longest project file, in bytes.
pub const MAX_BYTES: u64 = 256 * 1024;

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{} has no {FILE_NAME}: make one with `soulbox init`", .0.display())]
    Missing(PathBuf),
    #[error("{}: {source}", .path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} {why}", .path.display())]
    NotAProjectFile { path: PathBuf, why: String },
    #[error(transparent)]
    Wrong(#[from] Diagnostics),
}

impl From<LoadError> for soulbox_model::Error {
    fn from(error: LoadError) -> Self {
        let wrong = |path: &PathBuf, message: String| Self::Configuration {
            field: path.display().to_string(),
            message,
            span: None,
        };
        match error {
            LoadError::Missing(dir) => {
                Self::not_found("project file", dir.join(FILE_NAME).display())
            }
            LoadError::Unreadable { path, source } => {
                Self::internal(format!("{} cannot be read", path.display()), source)
            }
            LoadError::NotAProjectFile { path, why } => wrong(&path, why),
            LoadError::Wrong(diagnostics) => {
                wrong(&PathBuf::from(FILE_NAME), diagnostics.to_string())
            }
        }
    }
}

/// What a project is held against besides its own rules.
#[derive(Debug, Clone, Default)]
pub struct Against {
    /// Instead of what the file says, later ones over earlier ones.
    pub overrides: Vec<Override>,
    /// Cores of the host that is to run it; none for any.
    pub cores: Option<u32>,
}

/// A directory with everything that belongs to a project. Nothing outside is reached through it.
#[derive(Debug)]
pub struct ProjectDir {
    path: PathBuf,
    dir: OwnedFd,
}

impl ProjectDir {
    /// # Errors
    /// When there is no such directory, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(unreadable(path))?;
        Ok(Self { path: path.to_owned(), dir })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the project file lies, or would.
    pub fn file(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// Opens what lies at `relative`, which must be in the directory, symbolic links included.
    ///
    /// # Errors
    /// `EXDEV` where the path or a link in it leaves the directory, `ELOOP` for the kernel's own links.
    pub fn open_inside(&self, relative: &Path) -> io::Result<File> {
        // NONBLOCK: a pipe without a writer would hold us up.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        self.resolve(relative, flags).map(File::from)
    }

    /// Whether `relative` leads out of the directory. What is not there leads nowhere.
    pub(crate) fn leaves(&self, relative: &Path) -> bool {
        let found = self.resolve(relative, OFlags::PATH | OFlags::CLOEXEC);
        found.is_err_and(|error| error.raw_os_error() == Some(Errno::XDEV.raw_os_error()))
    }

    fn resolve(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.dir, relative, flags, Mode::empty(), resolve)?)
    }

    /// The text of the project file.
    ///
    /// # Errors
    /// When there is none, or what is there is no file of text up to [`MAX_BYTES`] in the directory.
    pub fn read(&self) -> Result<String, LoadError> {
        let path = self.file();
        let file = self.open_inside(Path::new(FILE_NAME)).map_err(|error| {
            let no =
                |why: &str| LoadError::NotAProjectFile { path: path.clone(), why: why.to_owned() };
            match error.kind() {
                io::ErrorKind::NotFound => LoadError::Missing(self.path.clone()),
                io::ErrorKind::CrossesDevices => {
                    no("is a link out of the project: put the file there itself")
                }
                _ => LoadError::Unreadable { path: path.clone(), source: error },
            }
        })?;
        let no = |why: String| LoadError::NotAProjectFile { path: path.clone(), why };
        let meta = file.metadata().map_err(|source| unreadable(&path)(source))?;
        if !meta.is_file() {
            return Err(no("is no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| unreadable(&path)(source))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(no(format!("has more than {} KiB", MAX_BYTES / 1024)));
        }
        String::from_utf8(bytes).map_err(|error| {
            no(format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
        })
    }

    /// Writes the project file, all of it or nothing.
    ///
    /// # Errors
    /// When there is one and it may not be replaced, when it is a link, or the directory takes no file.
    pub fn write(&self, text: &str, replace: bool) -> Result<(), LoadError> {
        let path = self.file();
        let failed = |source: Errno| unreadable(&path)(source);
        let before = statat(&self.dir, FILE_NAME, AtFlags::SYMLINK_NOFOLLOW).ok();
        if before.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
            let why = "is a link: change what it leads to, or remove it".to_owned();
            return Err(LoadError::NotAProjectFile { path: path.clone(), why });
        }
        let draft = format!(".{FILE_NAME}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if before.is_some() { 0o600 } else { 0o644 });
        let mut file = openat(&self.dir, &draft, flags, mode).map(File::from).map_err(failed)?;
        let renaming = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        if let Some(before) = before {
            belongs_as(&file, &before);
        }
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(renameat_with(&self.dir, &draft, &self.dir, FILE_NAME, renaming)?));
        if written.is_err() {
            // What is left of it is of no use; the first error is the one to tell.
            let _ = unlinkat(&self.dir, &draft, AtFlags::empty());
        }
        written.map_err(unreadable(&path))
    }

    /// The project of the directory.
    ///
    /// # Errors
    /// When there is no file, or with everything that is wrong with it.
    pub fn load(&self, against: &Against) -> Result<Project, LoadError> {
        let text = self.read()?;
        Ok(self.check(&text, against)?)
    }

    /// The project that `text` would be in the place of the file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, text: &str, against: &Against) -> Result<Project, Diagnostics> {
        let name = self.file();
        let name = name.strip_prefix("./").unwrap_or(&name).display().to_string();
        let context = validate::Context { against, dir: Some(self) };
        validate::project(text, &name, context)
    }
}

/// Gives `file` the owner and the permissions of the one whose place it takes, as far as there are any here. Where the
/// owner cannot be had, the group is another one, and gets nothing.
fn belongs_as(file: &File, before: &Stat) {
    let (owner, group) = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
    let permissions = match fchown(file, Some(owner), Some(group)) {
        Ok(()) => 0o777,
        Err(_) => 0o707,
    };
    // Until then it is its owner's alone.
    let _ = fchmod(file, Mode::from_raw_mode(before.st_mode & permissions));
}

fn unreadable<E: Into<io::Error>>(path: &Path) -> impl FnOnce(E) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Unreadable { path, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::fuzzing::SMALL;

    fn with(text: &[u8]) -> (tempfile::TempDir, ProjectDir) {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(FILE_NAME), text).unwrap();
        let dir = ProjectDir::open(temp.path()).unwrap();
        (temp, dir)
    }

    fn said(dir: &ProjectDir) -> String {
        dir.load(&Against::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_of_text_in_the_directory_is_read() {
        let (_temp, dir) = with(SMALL.as_bytes());
        assert_eq!(dir.load(&Against::default()).unwrap().project.name, "small");
    }

    #[test]
    fn anything_else_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ProjectDir::open(temp.path()).unwrap();
        assert!(said(&dir).contains("soulbox init"), "{}", said(&dir));
        fs::create_dir(temp.path().join(FILE_NAME)).unwrap();
        assert!(said(&dir).contains("no regular file"));
        assert!(said(&with(b"a = \xff").1).contains("not UTF-8 from byte 4"));
        let long = vec![b'#'; usize::try_from(MAX_BYTES).unwrap() + 1];
        assert!(said(&with(&long).1).contains("256 KiB"));
        assert!(ProjectDir::open(&temp.path().join("none")).is_err());
    }

    #[test]
    fn a_pipe_does_not_hold_us_up() {
        let temp = tempfile::tempdir().unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        let kind = FileType::Fifo;
        rustix::fs::mknodat(CWD, temp.path().join(FILE_NAME), kind, mode, 0).unwrap();
        let dir = ProjectDir::open(temp.path()).unwrap();
        assert!(said(&dir).contains("no regular file"));
    }

    #[test]
    fn links_are_followed_inside_only() {
        let (temp, dir) = with(SMALL.as_bytes());
        let path = temp.path();
        fs::rename(path.join(FILE_NAME), path.join("real.toml")).unwrap();
        symlink("real.toml", path.join(FILE_NAME)).unwrap();
        assert!(dir.load(&Against::default()).is_ok());
        fs::remove_file(path.join(FILE_NAME)).unwrap();
        symlink("/etc/hostname", path.join(FILE_NAME)).unwrap();
        assert!(said(&dir).contains("link out of the project"), "{}", said(&dir));
        symlink("../../etc", path.join("up")).unwrap();
        assert!(dir.leaves(Path::new("up/hostname")) && dir.leaves(Path::new("../x")));
        assert!(!dir.leaves(Path::new("none")) && !dir.leaves(Path::new("./real.toml")));
    }

    #[test]
    fn a_file_is_written_whole_and_over_another_one_only_when_told() {
        let temp = tempfile::tempdir().unwrap();
        let dir = ProjectDir::open(temp.path()).unwrap();
        dir.write(SMALL, false).unwrap();
        assert_eq!(dir.read().unwrap(), SMALL);
        assert!(dir.write("x", false).is_err());
        assert_eq!(dir.read().unwrap(), SMALL);
        dir.write("x", true).unwrap();
        assert_eq!(dir.read().unwrap(), "x");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "a draft is left");
        fs::remove_file(dir.file()).unwrap();
        symlink("elsewhere", dir.file()).unwrap();
        assert!(dir.write(SMALL, true).is_err());
        assert!(!temp.path().join("elsewhere").exists());
    }

    #[test]
    fn programs_stay_in_the_project_and_cores_on_the_host() {
        let (temp, dir) = with(SMALL.replace("[\"true\"]", "[\"./run\"]").as_bytes());
        assert!(dir.load(&Against::default()).is_ok());
        symlink("/bin/true", temp.path().join("run")).unwrap();
        assert!(said(&dir).contains("leaves the project"), "{}", said(&dir));
        let (_temp, dir) = with(format!("{SMALL}[resources]\ncpu = \"3\"\n").as_bytes());
        let against = |cores| Against { cores: Some(cores), ..Against::default() };
        assert!(dir.load(&against(3)).is_ok());
        let wrong = dir.load(&against(2)).unwrap_err().to_string();
        assert!(wrong.contains("more than the 2 cores of this host"), "{wrong}");
    }
}
