//! Which watch belongs to which directory of a watched tree.

use std::collections::HashMap;

/// Paths are relative to the watched root; the root itself is the empty path.
#[derive(Debug, Default)]
pub struct Tree {
    paths: HashMap<i32, String>,
}

impl Tree {
    pub fn path(&self, watch: i32) -> Option<&str> {
        self.paths.get(&watch).map(String::as_str)
    }

    /// Says whether the watch is new. A watch follows its directory, so a known one has moved.
    pub fn insert(&mut self, watch: i32, path: String) -> bool {
        match self.paths.get(&watch).cloned() {
            Some(known) if known.is_empty() => false,
            Some(known) => {
                self.rename(&known, &path);
                false
            }
            None => {
                self.paths.insert(watch, path);
                true
            }
        }
    }

    pub fn remove(&mut self, watch: i32) {
        self.paths.remove(&watch);
    }

    /// Gives a directory and everything below it a new place.
    pub fn rename(&mut self, from: &str, to: &str) {
        if from == to {
            return;
        }
        for path in self.paths.values_mut() {
            if let Some(rest) = below(path, from) {
                *path = format!("{to}{rest}");
            }
        }
    }

    /// Forgets a directory and everything below it; returns their watches.
    pub fn remove_below(&mut self, directory: &str) -> Vec<i32> {
        let gone: Vec<i32> = self
            .paths
            .iter()
            .filter(|(_, path)| below(path, directory).is_some())
            .map(|(watch, _)| *watch)
            .collect();
        for watch in &gone {
            self.paths.remove(watch);
        }
        gone
    }
}

/// What follows `directory` in `path`: nothing or `/…`.
fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    path.strip_prefix(directory).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_moves_everything_below_and_nothing_beside() {
        let mut tree = Tree::default();
        for (watch, path) in [(1, ""), (2, "a"), (3, "a/b"), (4, "ab"), (5, "c")] {
            assert!(tree.insert(watch, path.to_owned()));
        }
        tree.rename("a", "c/a");
        assert_eq!(tree.path(2), Some("c/a"));
        assert_eq!(tree.path(3), Some("c/a/b"));
        assert_eq!(tree.path(4), Some("ab"));
        assert!(!tree.insert(3, "x".to_owned()), "the directory is watched already");
        assert_eq!(tree.path(3), Some("x"));
        let mut gone = tree.remove_below("c");
        gone.sort_unstable();
        assert_eq!(gone, [2, 5]);
        assert_eq!(tree.path(1), Some(""));
    }
}
