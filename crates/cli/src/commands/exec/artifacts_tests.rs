//! What names and files of a sandbox can do to this machine: nothing.

use std::io::Write as _;

use tokio::io::AsyncWriteExt as _;

use super::*;

fn put(to: &Path, name: &str, content: &[u8]) -> Result<bool> {
    let Some(mut place) = Target::open(to)?.place(name)? else { return Ok(false) };
    place.file()?.write_all(content).unwrap();
    Ok(place.keep().is_ok())
}

#[test]
fn names_that_lead_anywhere_else_are_not_taken() {
    for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", "a\u{1b}[2J", "\u{202e}gnp", &"x".repeat(256)]
    {
        assert!(!is_plain(bad), "{bad:?}");
    }
    for good in ["a", ".hidden", "a b.png", "größe", "-rf"] {
        assert!(is_plain(good), "{good:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("in");
    for bad in ["../up", "/etc/up", "a/../../up", "a//b", "./../up"] {
        assert!(!put(&target, bad, b"bad").unwrap(), "{bad}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn links_on_this_machine_lead_nothing_out() {
    let dir = tempfile::tempdir().unwrap();
    let (target, elsewhere) = (dir.path().join("in"), dir.path().join("elsewhere"));
    std::fs::create_dir_all(&target).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("file"), "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, target.join("way")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("file"), target.join("name")).unwrap();
    assert!(!put(&target, "way/out", b"bad").unwrap());
    assert!(!elsewhere.join("out").exists());
    // The link goes, and not what it led to.
    assert!(put(&target, "name", b"new").unwrap());
    assert_eq!(std::fs::read(elsewhere.join("file")).unwrap(), b"mine");
    assert!(std::fs::symlink_metadata(target.join("name")).unwrap().is_file());
}

#[test]
fn what_is_in_the_way_stays_and_nothing_is_left_of_a_try() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "mine").unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    assert!(!put(dir.path(), "a/b", b"x").unwrap());
    assert!(!put(dir.path(), "d", b"x").unwrap());
    assert!(put(dir.path(), "d/e/f", b"x").unwrap());
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "d"]);
    assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_file_without_end_is_cut() {
    let mut into = Bounded { file: Vec::new(), left: 10, cut: false };
    into.write_all(b"12345678").await.unwrap();
    assert!(into.write_all(b"9abc").await.is_err());
    assert!(into.cut);
    assert_eq!(into.file, b"123456789a");
}

#[test]
fn a_kind_is_what_the_name_says() {
    assert_eq!(artifact("a/b.PNG".into(), 1).media_type, "image/png");
    assert_eq!(artifact("x".into(), 1).media_type, "application/octet-stream");
    assert!(artifact("x".into(), MAX_FILE + 1).truncated);
}
