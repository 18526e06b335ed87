//! Directories that come out of a sandbox as a tar stream.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

/// Whatever the stream says: nothing outside of the target is made, changed or read through a link,
/// and what is made are files, directories and links without a special bit.
pub fn unpack(data: &[u8]) {
    let around = tempfile::tempdir().expect("a directory");
    let target = around.path().join("target");
    let outside = around.path().join("outside");
    fs::create_dir(&outside).expect("a directory");
    fs::write(outside.join("file"), "before").expect("a file");
    let _ = soulbox_cli::fuzzing::unpack(&target, data);

    let mut names: Vec<_> = fs::read_dir(around.path())
        .expect("still a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert!(names == ["outside", "target"] || names == ["outside"], "{names:?}");
    assert_eq!(fs::read_dir(&outside).expect("still a directory").count(), 1);
    assert_eq!(fs::read(outside.join("file")).expect("still a file"), b"before");
    let file = fs::metadata(outside.join("file")).expect("still a file");
    assert_eq!(file.nlink(), 1, "a hard link leads out");
    if target.exists() {
        look(&target);
    }
    // A directory without permissions would stay behind.
    open_up(around.path());
}

fn look(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let what = fs::symlink_metadata(&path).expect("it is there");
        let kind = what.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink(), "{}", path.display());
        if !kind.is_symlink() {
            assert_eq!(what.permissions().mode() & 0o7000, 0, "{}", path.display());
        }
        if kind.is_dir() {
            look(&path);
        }
    }
}

fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
