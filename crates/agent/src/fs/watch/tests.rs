use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use super::*;

fn open(root: &Path, recursive: bool) -> Watcher {
    let options = Options { recursive, ..Options::default() };
    Watcher::open(root.to_str().unwrap(), options, Arc::default()).unwrap()
}

fn fetch(watcher: &Watcher) -> Vec<(String, Change)> {
    watcher.drain();
    watcher.take().unwrap().into_iter().map(|event| (event.name, event.change)).collect()
}

fn told(expected: &[(&str, Change)]) -> Vec<(String, Change)> {
    expected.iter().map(|(name, change)| ((*name).to_owned(), *change)).collect()
}

#[test]
fn tells_each_change_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::write(root.join("old"), "").unwrap();
    let watcher = open(root, false);
    fs::write(root.join("f"), "text").unwrap();
    fs::set_permissions(root.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(root.join("f"), root.join("g")).unwrap();
    fs::remove_file(root.join("g")).unwrap();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/hidden"), "").unwrap();
    assert_eq!(
        fetch(&watcher),
        told(&[
            ("f", Change::Create),
            ("f", Change::Write),
            ("f", Change::Chmod),
            ("f", Change::Rename),
            ("g", Change::Create),
            ("g", Change::Remove),
            ("d", Change::Create),
        ])
    );
    assert_eq!(fetch(&watcher), []);
}

#[test]
fn a_drain_that_ends_early_loses_nothing_and_says_so() {
    const FILES: usize = 1000;
    let root = tempfile::tempdir().unwrap();
    let watcher = open(root.path(), false);
    for n in 0..FILES {
        fs::File::create(root.path().join(n.to_string())).unwrap();
    }
    let mut parts = Vec::new();
    while watcher.drain_about(3) {
        parts.push(watcher.take().unwrap());
    }
    assert!(parts.len() > 1 && parts[0].len() < FILES, "{} at once", parts[0].len());
    let names: Vec<String> = parts.into_iter().flatten().map(|event| event.name).collect();
    assert_eq!(names, (0..FILES).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn the_directory_itself_is_a_dot() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("root");
    fs::create_dir(&root).unwrap();
    let (flat, deep) = (open(&root, false), open(&root, true));
    let moved = parent.path().join("moved");
    fs::rename(&root, &moved).unwrap();
    fs::remove_dir(&moved).unwrap();
    assert_eq!(fetch(&flat), told(&[(".", Change::Rename), (".", Change::Remove)]));
    assert_eq!(fetch(&deep), told(&[(".", Change::Remove)]));
}

#[test]
fn a_new_tree_is_told_once_and_then_watched() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let watcher = open(root, true);
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/f"), "").unwrap();
    let mut events = fetch(&watcher);
    events.sort_by(|left, right| left.0.cmp(&right.0));
    assert_eq!(
        events,
        told(&[("a", Change::Create), ("a/b", Change::Create), ("a/b/f", Change::Create)])
    );
    fs::write(root.join("a/b/f"), "text").unwrap();
    fs::remove_file(root.join("a/b/f")).unwrap();
    fs::remove_dir(root.join("a/b")).unwrap();
    assert_eq!(
        fetch(&watcher),
        told(&[("a/b/f", Change::Write), ("a/b/f", Change::Remove), ("a/b", Change::Remove)])
    );
}

#[test]
fn a_directory_keeps_being_watched_under_its_new_name() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir(root.join("c")).unwrap();
    let watcher = open(root, true);
    fs::rename(root.join("a"), root.join("c/z")).unwrap();
    fs::write(root.join("c/z/b/f"), "").unwrap();
    assert_eq!(
        fetch(&watcher),
        told(&[("a", Change::Rename), ("c/z", Change::Create), ("c/z/b/f", Change::Create)])
    );
}

#[test]
fn a_directory_that_left_is_not_watched_any_more() {
    let root = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    let watcher = open(root.path(), true);
    fs::rename(root.path().join("a"), outside.path().join("a")).unwrap();
    assert_eq!(fetch(&watcher), told(&[("a", Change::Rename)]));
    assert_eq!(fetch(&watcher), []);
    fs::write(outside.path().join("a/b/f"), "").unwrap();
    assert_eq!(fetch(&watcher), []);
    fs::rename(outside.path().join("a"), root.path().join("a")).unwrap();
    let names: Vec<_> = fetch(&watcher).into_iter().map(|event| event.0).collect();
    assert_eq!(names, ["a", "a/b", "a/b/f"]);
}

#[test]
fn every_file_of_a_growing_tree_is_told_exactly_once() {
    let root = tempfile::tempdir().unwrap();
    let watcher = open(root.path(), true);
    let base = root.path().to_owned();
    let writer = std::thread::spawn(move || {
        for outer in 0..40 {
            let directory = base.join(format!("{outer}/x/y"));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..5 {
                fs::write(directory.join(file.to_string()), "").unwrap();
            }
        }
    });
    let mut created = HashMap::<String, u32>::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let done = writer.is_finished();
        for (name, change) in fetch(&watcher) {
            if change == Change::Create {
                *created.entry(name).or_default() += 1;
            }
        }
        if done || Instant::now() > deadline {
            break;
        }
    }
    writer.join().unwrap();
    assert_eq!(created.len(), 40 * (3 + 5));
    let twice: Vec<_> = created.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn entries_come_with_what_is_still_there() {
    let root = tempfile::tempdir().unwrap();
    let options = Options { include_entry: true, ..Options::default() };
    let watcher = Watcher::open(root.path().to_str().unwrap(), options, Arc::default()).unwrap();
    fs::write(root.path().join("stays"), "12").unwrap();
    fs::write(root.path().join("goes"), "").unwrap();
    fs::remove_file(root.path().join("goes")).unwrap();
    watcher.drain();
    for event in watcher.take().unwrap() {
        let size = event.entry.as_ref().map(|entry| entry.size);
        match event.name.as_str() {
            "stays" => assert_eq!(size, Some(2)),
            _ => assert_eq!(size, None),
        }
    }
}

#[test]
fn a_flood_that_nobody_fetches_ends_the_watcher_and_frees_its_memory() {
    let root = tempfile::tempdir().unwrap();
    let kept = Arc::new(AtomicUsize::new(MAX_QUEUES - 10_000));
    let path = root.path().to_str().unwrap();
    let watcher = Watcher::open(path, Options::default(), Arc::clone(&kept)).unwrap();
    for index in 0..200 {
        fs::write(root.path().join(index.to_string()), "").unwrap();
    }
    watcher.drain();
    for _ in 0..2 {
        let error = watcher.take().unwrap_err();
        assert!(matches!(&error, Error::Internal(text) if text.contains("lost events")), "{error}");
    }
    assert_eq!(kept.load(Ordering::Relaxed), MAX_QUEUES - 10_000);
}

#[test]
fn says_why_it_cannot_watch() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let open = |path: &Path| {
        Watcher::open(path.to_str().unwrap(), Options::default(), Arc::default()).unwrap_err()
    };
    assert!(matches!(open(&file), Error::Invalid(_)));
    assert!(matches!(open(&root.path().join("none")), Error::NotFound(_)));
}
