//! The rules of [`Templates`], with a recipe that is quick and does what it is told.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Semaphore, time::timeout};

use super::*;
use crate::recipe::Description;

/// Writes one file, as often as it gets a permit; without end while it gets none.
#[derive(Debug)]
struct Quick {
    fingerprint: &'static str,
    permits: Semaphore,
    started: AtomicUsize,
}

impl Quick {
    fn new(fingerprint: &'static str, permits: usize) -> Arc<Self> {
        Arc::new(Self { fingerprint, permits: Semaphore::new(permits), started: 0.into() })
    }
}

#[async_trait]
impl Recipe for Quick {
    fn name(&self) -> &str {
        "quick"
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.into()
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description> {
        self.started.fetch_add(1, Ordering::SeqCst);
        fs::create_dir(&workshop.rootfs).unwrap();
        fs::write(workshop.rootfs.join("half"), "").unwrap();
        workshop.report.report(50, "half done");
        self.permits.acquire().await.unwrap().forget();
        fs::write(workshop.rootfs.join("whole"), "").unwrap();
        Ok(Description { default_user: "user".into(), ..Description::default() })
    }
}

fn open(dir: &Path, recipe: &Arc<Quick>) -> Templates {
    Templates::with_recipes(dir.into(), vec![recipe.clone()]).unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("in time");
}

#[tokio::test]
async fn everybody_waits_for_one_build_and_sees_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Quick::new("one", 0);
    let templates = open(dir.path(), &recipe);
    let seen = AtomicUsize::new(0);
    let count = |progress: Progress| {
        if progress.percent == 50 {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    };
    let release = async {
        until(|| seen.load(Ordering::SeqCst) == 2).await;
        let refused = templates.resolve("quick").unwrap_err();
        assert!(refused.to_string().contains("50 %, half done"), "{refused}");
        assert!(refused.retryable() && refused.retry_delay().is_some());
        assert!(matches!(templates.list()[0].state, TemplateState::Building(_)));
        recipe.permits.add_permits(1);
    };
    let (one, two, ()) = tokio::join!(
        templates.build("quick", count),
        templates.build("quick:latest", count),
        release
    );
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    assert_eq!(recipe.started.load(Ordering::SeqCst), 1);
    assert_eq!(entries(dir.path()), ["quick-one"]);
}

#[tokio::test]
async fn a_build_ends_with_the_last_of_those_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Quick::new("one", 0);
    let templates = open(dir.path(), &recipe);
    let (first, second) = (templates.clone(), templates.clone());
    let first = tokio::spawn(async move { first.build("quick", |_| ()).await });
    let second = tokio::spawn(async move { second.build("quick", |_| ()).await });
    until(|| !entries(dir.path()).is_empty()).await;

    first.abort();
    assert!(first.await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(entries(dir.path()).len(), 1, "one of them still waits");

    second.abort();
    assert!(second.await.is_err());
    until(|| entries(dir.path()).is_empty()).await;

    // And another one may begin at any moment.
    recipe.permits.add_permits(1);
    let built = templates.build("quick", |_| ()).await.unwrap();
    assert!(built.layers[0].join("whole").exists());
}

#[tokio::test]
async fn a_stopped_build_ends_for_all_who_wait() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Quick::new("one", 0);
    let templates = open(dir.path(), &recipe);
    assert!(!templates.stop("quick").await, "there is none");
    let (first, second) = (templates.clone(), templates.clone());
    let first = tokio::spawn(async move { first.build("quick", |_| ()).await });
    let second = tokio::spawn(async move { second.build("quick", |_| ()).await });
    until(|| recipe.started.load(Ordering::SeqCst) == 1).await;
    assert!(templates.list()[0].began.is_some());

    assert!(templates.stop("quick:latest").await);
    assert_eq!(entries(dir.path()), Vec::<String>::new());
    for waited in [first, second] {
        assert!(matches!(waited.await.unwrap(), Err(Error::Stopped(name)) if name == "quick"));
    }
    let status = templates.find("quick").unwrap();
    assert!(matches!(status.state, TemplateState::Missing { error: Some(_) }));
    assert_eq!((status.began, templates.stop("quick").await), (None, false));

    recipe.permits.add_permits(1);
    assert!(templates.build("quick", |_| ()).await.is_ok(), "it may be asked for again");
    assert_eq!(recipe.started.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn two_servers_do_not_build_the_same_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Quick::new("one", 0), Quick::new("one", 1));
    let first = open(dir.path(), &one);
    let building = tokio::spawn(async move { first.build("quick", |_| ()).await });
    until(|| one.started.load(Ordering::SeqCst) == 1).await;

    // Opening does not take the other's draft for a leftover.
    let second = open(dir.path(), &other);
    assert_eq!(entries(dir.path()).len(), 1);
    let waiting = std::sync::Mutex::new(String::new());
    let build = second.build("quick", |progress| *waiting.lock().unwrap() = progress.step);
    tokio::select! {
        built = build => panic!("beside the other: {built:?}"),
        () = until(|| waiting.lock().unwrap().contains("another process")) => {}
    }

    one.permits.add_permits(1);
    let built = building.await.unwrap().unwrap();
    let found = timeout(Duration::from_secs(10), second.build("quick", |_| ())).await.unwrap();
    assert_eq!(*built, *found.unwrap());
    assert_eq!(other.started.load(Ordering::SeqCst), 0, "it was there already");
}

#[tokio::test]
async fn what_an_interrupted_build_left_is_removed_and_what_is_whole_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = Quick::new("one", 1);
    let built = open(dir.path(), &recipe).build("quick", |_| ()).await.unwrap();
    fs::create_dir_all(dir.path().join(".build-x/content/rootfs")).unwrap();

    let again = open(dir.path(), &recipe);
    assert_eq!(entries(dir.path()), ["quick-one"]);
    assert_eq!(*again.resolve("quick:default").unwrap(), *built);
    assert!(built.size_bytes > 0);
}

#[tokio::test]
async fn a_new_recipe_asks_for_a_new_build_and_the_old_one_goes_when_told() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), &Quick::new("one", 1)).build("quick", |_| ()).await.unwrap();

    let templates = open(dir.path(), &Quick::new("two", 1));
    assert!(templates.resolve("quick").is_err());
    templates.build("quick", |_| ()).await.unwrap();
    assert_eq!(entries(dir.path()).len(), 2);
    assert_eq!(templates.outdated(|_| true).unwrap(), []);
    let outdated = templates.outdated(|_| false).unwrap();
    assert_eq!(outdated.len(), 1);
    templates.delete(&outdated[0]).unwrap();
    assert_eq!(entries(dir.path()), ["quick-two"]);
}

#[test]
fn names_that_are_none_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let templates = open(dir.path(), &Quick::new("one", 1));
    for name in
        ["", "nope", "quick:v2", "quick:", ":latest", "../quick", "QUICK", &"x".repeat(9999)]
    {
        let error = templates.resolve(name).unwrap_err();
        assert_eq!(error.http_status(), 404, "{name}");
        assert!(error.to_string().len() < 300);
    }
}
