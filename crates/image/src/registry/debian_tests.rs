//! Which packages are there already, and what a hostile layer cannot make of it.

use std::os::unix::fs::symlink;

use super::*;

fn layer(status: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if let Some(status) = status {
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        fs::write(dir.path().join(STATUS), status).unwrap();
    }
    dir
}

#[test]
fn the_uppermost_layer_that_says_what_is_installed_counts() {
    let (top, middle, bottom) = (layer(None), layer(Some("middle")), layer(Some("bottom")));
    let of = |layers: &[&Path]| status(&Template::of(layers));
    assert_eq!(of(&[top.path(), middle.path(), bottom.path()]).unwrap(), "middle");
    assert!(of(&[top.path()]).is_err());
}

#[test]
fn a_layer_leads_nowhere_else() {
    let secret = layer(Some("secret"));
    let file = tempfile::tempdir().unwrap();
    fs::create_dir_all(file.path().join("var/lib/dpkg")).unwrap();
    symlink(secret.path().join(STATUS), file.path().join(STATUS)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    symlink(secret.path().join("var"), directory.path().join("var")).unwrap();
    let pipe = tempfile::tempdir().unwrap();
    fs::create_dir_all(pipe.path().join("var/lib/dpkg")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(CWD, pipe.path().join(STATUS), fifo, Mode::from_raw_mode(0o600), 0)
        .unwrap();
    for hostile in [&file, &directory, &pipe] {
        assert!(status(&Template::of(&[hostile.path(), secret.path()])).is_err());
    }
}

#[test]
fn what_is_left_out_is_part_of_what_it_is() {
    let with = Debian { packages: &["a"], without: &["b"] };
    assert_ne!(with.identity(), Debian { packages: &["a", "b"], without: &[] }.identity());
    assert_ne!(with.identity(), Debian { packages: &["a"], without: &[] }.identity());
    assert!(stand_ins(&["b"]).starts_with("Package: b\nStatus: install ok installed\n"));
    assert_eq!(stand_ins(&[]), "");
}
