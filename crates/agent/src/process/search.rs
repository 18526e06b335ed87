//! Where programs of uid 0 are looked for: not where somebody else could have put one of the same name.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Root's, and what the kernel shows for owners outside of the sandbox, as those of the host's `/usr`.
const TRUSTED_OWNERS: [u32; 2] = [0, 65534];
const WRITABLE_BY_ALL: u32 = 0o002;
/// Links that are followed in one path.
const MAX_LINKS: u32 = 8;

/// The directories of `path` that nobody but root can change.
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
        if !meta.is_dir() || meta.mode() & WRITABLE_BY_ALL != 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_root_are_searched_for_root() {
        // Below /tmp, which everybody can write.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let strangers = dir.path().to_str().unwrap();
        let path = format!("{strangers}:bin::/usr/bin:/no/such:{strangers}/bin:/usr/sbin");
        assert_eq!(of_root(&path), "/usr/bin:/usr/sbin");
        // As on Debian, where it is a link into /usr.
        assert_eq!(of_root("/bin"), "/bin");
    }

    #[test]
    fn links_lead_to_no_other_owner() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/usr/bin", &link).unwrap();
        assert!(!is_roots(&link, MAX_LINKS), "its directory can be changed");
        assert!(!is_roots(Path::new("/bin"), 0) || !Path::new("/bin").is_symlink());
    }
}
