//! Where programs of uid 0 are looked for: not in directories of somebody else, who could have put one of the same
//! name there. What a template makes writable for all on purpose, as `base` does with `/usr/local`, stays.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Root's, and what the kernel shows for owners outside of the sandbox, as those of the host's `/usr`.
const TRUSTED_OWNERS: [u32; 2] = [0, 65534];
/// Links that are followed in one path.
const MAX_LINKS: u32 = 8;

/// The directories of `path` that are root's.
pub(super) fn of_root(path: &str) -> String {
    let kept = path.split(':').filter(|entry| is_roots(Path::new(entry), MAX_LINKS));
    kept.collect::<Vec<_>>().join(":")
}

/// Looked at from the root down, so that nothing below a stranger's directory is touched.
fn is_roots(path: &Path, links: u32) -> bool {
    if !path.is_absolute() {
        return false;
    }
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let Ok(meta) = fs::symlink_metadata(ancestor) else { return false };
        if !TRUSTED_OWNERS.contains(&meta.uid()) {
            return false;
        }
        if meta.is_symlink() {
            let (Ok(target), Some(parent)) = (fs::read_link(ancestor), ancestor.parent()) else {
                return false;
            };
            let rest = path.strip_prefix(ancestor).unwrap_or(Path::new(""));
            return links > 0 && is_roots(&parent.join(target).join(rest), links - 1);
        }
        if !meta.is_dir() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_a_stranger() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        // Who may not do this is no root, and the directory a stranger's already.
        let _ = std::os::unix::fs::chown(dir.path(), Some(1000), Some(1000));
        dir
    }

    #[test]
    fn only_directories_of_root_are_searched_for_root() {
        let dir = of_a_stranger();
        let strangers = dir.path().to_str().unwrap();
        let path = format!("{strangers}:bin::/usr/bin:/no/such:{strangers}/bin:/usr/sbin");
        assert_eq!(of_root(&path), "/usr/bin:/usr/sbin");
        // As on Debian, where it is a link into /usr.
        assert_eq!(of_root("/bin"), "/bin");
    }

    #[test]
    fn links_lead_to_no_other_owner() {
        let dir = of_a_stranger();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/usr/bin", &link).unwrap();
        assert!(!is_roots(&link, MAX_LINKS), "its directory can be changed");
        assert!(!is_roots(Path::new("/bin"), 0) || !Path::new("/bin").is_symlink());
    }
}
