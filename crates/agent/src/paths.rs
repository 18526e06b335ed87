//! From the path in a request to the path on disk: one rule for RPCs, `/files` and working directories.
//!
//! Paths are UTF-8 text, because JSON and query strings are. An absolute path is taken as it is, so
//! that the kernel alone decides what `..` and symbolic links in it mean.

/// The longest path that the kernel takes, in bytes, without the final NUL.
const MAX_PATH: usize = 4095;

/// Why a path in a request names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("path contains a NUL byte")]
    Nul,
    #[error("path is {0} bytes long, at most {MAX_PATH} are possible")]
    TooLong(usize),
    #[error("cannot expand user-specific home dir: {0}")]
    OthersHome(String),
}

/// Resolves `path` for a user with this home.
///
/// Empty is the default working directory, or the home when there is none; `~` and `~/x` are in the
/// home; a relative path is too, whatever the working directory is.
pub fn resolve(path: &str, home: &str, workdir: Option<&str>) -> Result<String, PathError> {
    if path.contains('\0') {
        return Err(PathError::Nul);
    }
    let resolved = match path {
        "" => match workdir.filter(|workdir| !workdir.is_empty()) {
            Some(workdir) => return resolve(workdir, home, None),
            None => home.to_owned(),
        },
        "~" => home.to_owned(),
        _ if path.starts_with('/') => path.to_owned(),
        _ => match path.strip_prefix('~') {
            Some(rest) if rest.starts_with('/') => clean(&format!("{home}/{rest}")),
            Some(_) => return Err(PathError::OthersHome(path.chars().take(64).collect())),
            None => clean(&format!("{home}/{path}")),
        },
    };
    if resolved.len() > MAX_PATH {
        return Err(PathError::TooLong(resolved.len()));
    }
    Ok(resolved)
}

/// The last component of a path: `/` for the root, never empty.
pub fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None if path.starts_with('/') => "/",
        Some("") | None => ".",
        Some(name) => name,
    }
}

/// Removes `.`, `..` and empty components of an absolute path without asking the file system.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_home(path: &str) -> Result<String, PathError> {
        resolve(path, "/home/user", None)
    }

    #[test]
    fn follows_the_table_of_the_protocol() {
        assert_eq!(at_home("").unwrap(), "/home/user");
        assert_eq!(resolve("", "/home/user", Some("/code")).unwrap(), "/code");
        assert_eq!(resolve("", "/home/user", Some("work")).unwrap(), "/home/user/work");
        assert_eq!(at_home("~").unwrap(), "/home/user");
        assert_eq!(at_home("~/a/./b").unwrap(), "/home/user/a/b");
        assert_eq!(at_home("a/../b").unwrap(), "/home/user/b");
        assert_eq!(at_home("../../../../etc").unwrap(), "/etc");
        assert_eq!(resolve("a", "/home/user", Some("/code")).unwrap(), "/home/user/a");
        assert_eq!(at_home("/a/../b//c/").unwrap(), "/a/../b//c/");
        assert_eq!(resolve("x", "/", None).unwrap(), "/x");
    }

    #[test]
    fn refuses_what_no_file_can_be() {
        assert_eq!(at_home("a\0b"), Err(PathError::Nul));
        assert!(matches!(at_home("~other/x"), Err(PathError::OthersHome(_))));
        assert!(matches!(at_home(&"x".repeat(4096)), Err(PathError::TooLong(_))));
        assert!(at_home(&format!("/{}", "x".repeat(4094))).is_ok());
    }

    #[test]
    fn base_names() {
        for (path, name) in
            [("/", "/"), ("//", "/"), ("/a", "a"), ("/a/b/", "b"), ("", "."), ("x", "x")]
        {
            assert_eq!(base_name(path), name, "{path}");
        }
    }
}
