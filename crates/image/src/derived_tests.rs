//! What a plan is named by, and how templates stand on each other, with a preparer that only writes files.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use soulbox_model::TemplateId;

use super::*;
use crate::{Unused, templates::Templates};

/// Writes one file for each step, and fails where one is called `fail`.
#[derive(Debug, Default)]
struct Clerk {
    made: AtomicUsize,
}

#[async_trait]
impl Preparer for Clerk {
    async fn prepare(&self, job: Job<'_>) -> Result<Prepared> {
        self.made.fetch_add(1, Ordering::SeqCst);
        let upper = job.into.join("upper");
        fs::create_dir_all(&upper).unwrap();
        for archive in &job.archives {
            assert!(archive.file.exists());
        }
        for step in job.steps {
            if step.argv == ["fail"] {
                let advice = "told to".to_owned();
                return Err(Error::Build { name: job.name.into(), advice, log: String::new() });
            }
            fs::write(upper.join(&step.argv[0]), "").unwrap();
        }
        Ok(Prepared { root: "upper".into(), bytes: 7 })
    }
}

/// What derived templates of these tests stand on.
#[derive(Debug)]
struct Ground(&'static str);

#[async_trait]
impl Recipe for Ground {
    fn name(&self) -> &str {
        "ground"
    }

    fn fingerprint(&self) -> String {
        self.0.into()
    }

    async fn build(&self, workshop: &Workshop) -> Result<Description> {
        fs::create_dir(&workshop.rootfs).unwrap();
        let env = [("A".to_owned(), "ground".to_owned())].into();
        Ok(Description { default_user: "user".into(), env, ..Description::default() })
    }
}

fn open(dir: &Path, ground: &'static str) -> Templates {
    Templates::with_recipes(dir.into(), vec![Arc::new(Ground(ground))]).unwrap()
}

fn step(word: &str) -> Step {
    Step {
        argv: vec![word.into()],
        user: "root".into(),
        env: BTreeMap::new(),
        cwd: "/".into(),
        timeout: Duration::from_secs(1),
        retry: false,
    }
}

fn plan(parent: &str, word: &str) -> Plan {
    Plan {
        name: None,
        parent: parent.into(),
        team: Some(TeamId(uuid::Uuid::nil())),
        inputs: vec![],
        steps: vec![step(word)],
        env: BTreeMap::new(),
        path: Vec::new(),
        workdir: None,
        internet: false,
        within: LONGEST,
    }
}

fn add(templates: &Templates, plan: Plan, clerk: &Arc<Clerk>) -> String {
    let recipe = Derived::new(plan, Arc::clone(clerk) as _);
    let name = recipe.name().to_owned();
    templates.add(Arc::new(recipe)).unwrap();
    name
}

fn all(team: TeamId) -> Unused {
    Unused { since: Duration::ZERO, team }
}

const NOBODY: fn(&TemplateId) -> bool = |_| false;

#[test]
fn a_name_says_everything_that_makes_a_template() {
    let file = |path: &str, content: &str| File {
        path: path.into(),
        mode: 0o644,
        content: content.into(),
    };
    let with = |change: fn(&mut Plan)| {
        let mut plan = plan("ground", "a");
        change(&mut plan);
        plan.fingerprint()
    };
    let input = |files: Vec<File>, target: &str, strip| {
        let mut plan = plan("ground", "a");
        plan.inputs = vec![Input { target: target.into(), strip, source: Arc::new(Files(files)) }];
        plan.fingerprint()
    };
    let prints = [
        with(|_| ()),
        with(|plan| plan.internet = true),
        with(|plan| plan.path = vec!["/x".into()]),
        with(|plan| plan.parent = "other".into()),
        with(|plan| plan.team = None),
        with(|plan| plan.workdir = Some("/a".into())),
        with(|plan| plan.env = [("A".into(), "b".into())].into()),
        with(|plan| plan.steps.push(step("a"))),
        with(|plan| plan.steps[0].user = "user".into()),
        with(|plan| plan.steps[0].cwd = "/a".into()),
        with(|plan| plan.steps[0].argv.push(String::new())),
        with(|plan| plan.steps[0].env = [("A".into(), "b".into())].into()),
        input(vec![file("a", "b")], "/a", 0),
        input(vec![file("a", "b")], "/b", 0),
        input(vec![file("a", "b")], "/a", 1),
        input(vec![file("ab", "")], "/a", 0),
        input(vec![file("a", ""), file("b", "")], "/a", 0),
    ];
    assert_eq!(prints.iter().collect::<HashSet<_>>().len(), prints.len());
    assert_eq!(with(|_| ()), with(|plan| plan.name = Some("called".into())));
}

#[tokio::test]
async fn a_layer_lies_on_those_of_its_parent_and_is_found_again() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let below = add(&templates, plan("ground", "below"), &clerk);
    let above = add(&templates, plan(&below, "above"), &clerk);
    // Those below are built first.
    let built = templates.build(&above, |_| ()).await.unwrap();
    assert_eq!(built.layers.len(), 3);
    assert!(built.layers[0].join("above").exists() && built.layers[1].join("below").exists());
    assert_eq!((built.size_bytes, built.env["A"].as_str()), (7, "ground"));

    let again = open(dir.path(), "one");
    assert_eq!(*again.resolve(&above).unwrap(), *built);
    let again_named = add(&again, plan(&below, "above"), &clerk);
    assert_eq!(*again.build(&again_named, |_| ()).await.unwrap(), *built);
    assert_eq!(clerk.made.load(Ordering::SeqCst), 2, "nothing was made twice");
}

#[tokio::test]
async fn what_its_parent_was_replaced_below_is_made_anew() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let name = add(&templates, plan("ground", "a"), &clerk);
    let old = templates.build(&name, |_| ()).await.unwrap();

    let newer = open(dir.path(), "two");
    newer.build("ground", |_| ()).await.unwrap();
    add(&newer, plan("ground", "a"), &clerk);
    let new = newer.build(&name, |_| ()).await.unwrap();
    assert_ne!(old.layers, new.layers);
    let outdated = newer.outdated(NOBODY).unwrap();
    let mut homes: Vec<_> = outdated.iter().flat_map(|template| &template.layers[..1]).collect();
    homes.sort();
    assert_eq!(homes, [&old.layers[0], &old.layers[1]]);
}

#[tokio::test]
async fn a_failure_leaves_nothing_and_can_be_tried_again() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let name = add(&templates, plan("ground", "fail"), &clerk);
    for attempt in 1..=2 {
        templates.build(&name, |_| ()).await.unwrap_err();
        assert_eq!(clerk.made.load(Ordering::SeqCst), attempt);
        let left = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name());
        let left: Vec<_> = left.filter(|n| n.to_string_lossy().contains("build-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    templates.take_unused(all(TeamId(uuid::Uuid::nil())), NOBODY);
    assert!(templates.find(&name).is_err(), "what was derived in vain is forgotten");
}

#[tokio::test]
async fn only_what_nobody_needs_is_taken() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let below = add(&templates, plan("ground", "below"), &clerk);
    let above = add(&templates, plan(&below, "above"), &clerk);
    let team = TeamId(uuid::Uuid::nil());
    drop(templates.build(&above, |_| ()).await.unwrap());
    let take = |unused, in_use: &dyn Fn(&TemplateId) -> bool| {
        let taken = templates.take_unused(unused, in_use);
        taken.iter().map(|template| template.name.clone()).collect::<Vec<_>>()
    };

    assert!(take(all(team), &|id| id.as_str() == above).is_empty(), "a sandbox stands on it");
    assert!(take(all(TeamId(uuid::Uuid::max())), &NOBODY).is_empty(), "another team's");
    let lately = Unused { since: Duration::from_secs(60), team };
    drop(templates.resolve(&above).unwrap());
    assert!(take(lately, &NOBODY).is_empty(), "asked for lately");
    let held = templates.resolve(&above).unwrap();
    assert!(take(all(team), &NOBODY).is_empty(), "somebody makes a sandbox of it");
    drop(held);
    templates.save_uses();

    let taken = templates.take_unused(all(team), NOBODY);
    assert_eq!(taken.iter().map(|t| &t.name).collect::<Vec<_>>(), [&above, &below]);
    for template in &taken {
        templates.delete(template).unwrap();
        assert!(!template.layers[0].exists());
    }
    assert!(templates.resolve("ground").is_ok());
    assert!(open(dir.path(), "one").find(&above).is_err());
}

/// Writes into the draft in a task that nobody can stop.
#[derive(Debug, Default)]
struct Stubborn {
    begun: Arc<tokio::sync::Notify>,
    wrote: Arc<std::sync::atomic::AtomicBool>,
}

#[async_trait]
impl Preparer for Stubborn {
    async fn prepare(&self, job: Job<'_>) -> Result<Prepared> {
        let (held, into) = (Arc::clone(job.hold).lock_owned().await, job.into.to_owned());
        let (begun, wrote) = (Arc::clone(&self.begun), Arc::clone(&self.wrote));
        let task = tokio::spawn(async move {
            begun.notify_one();
            tokio::time::sleep(Duration::from_millis(200)).await;
            wrote.store(fs::create_dir(into).is_ok(), Ordering::SeqCst);
            drop(held);
        });
        task.await.unwrap();
        Ok(Prepared { root: "upper".into(), bytes: 7 })
    }
}

#[tokio::test]
async fn a_cancelled_build_is_removed_after_what_still_writes() {
    let (dir, stubborn) = (tempfile::tempdir().unwrap(), Arc::new(Stubborn::default()));
    let templates = open(dir.path(), "one");
    let recipe = Derived::new(plan("ground", "a"), Arc::clone(&stubborn) as _);
    let name = recipe.name().to_owned();
    templates.add(Arc::new(recipe)).unwrap();
    let build = templates.start(&name).unwrap();
    let build = tokio::spawn(build);
    stubborn.begun.notified().await;
    build.abort();
    let drafts = || {
        let entries = fs::read_dir(dir.path()).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains("build-")).count()
    };
    for _ in 0..100 {
        if drafts() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(drafts(), 0);
    assert!(stubborn.wrote.load(Ordering::SeqCst), "the draft stayed until it had written");
    templates.take_unused(all(TeamId(uuid::Uuid::nil())), NOBODY);
    assert!(templates.find(&name).is_err(), "what was cancelled is forgotten");
}

/// As many bytes as one request may bring.
#[derive(Debug)]
struct Heavy(Files);

#[async_trait]
impl Source for Heavy {
    fn identity(&self) -> String {
        "heavy".into()
    }

    fn weight(&self) -> usize {
        24 << 20
    }

    fn label(&self) -> String {
        self.0.label()
    }

    async fn pack(
        &self,
        parent: &Template,
        scratch: &Path,
        report: &(dyn Fn(String) + Sync),
    ) -> Result<PathBuf> {
        self.0.pack(parent, scratch, report).await
    }
}

#[tokio::test]
async fn files_are_held_until_they_are_built_and_of_one_team_not_without_end() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let team = TeamId(uuid::Uuid::nil());
    let large = |word: &str| {
        let source = Arc::new(Heavy(Files(vec![])));
        let input = Input { target: "/a".into(), strip: 0, source: Arc::clone(&source) as _ };
        let plan = Plan { inputs: vec![input], ..plan("ground", word) };
        (Arc::downgrade(&source), Derived::new(plan, Arc::clone(&clerk) as _))
    };
    let (held, recipe) = large("built");
    let name = recipe.name().to_owned();
    templates.add(Arc::new(recipe)).unwrap();
    drop(templates.build(&name, |_| ()).await.unwrap());
    for _ in 0..100 {
        if held.upgrade().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(held.upgrade().is_none(), "nobody needs them any more");
    let (held, recipe) = large("built");
    templates.add(Arc::new(recipe)).unwrap();
    assert!(held.upgrade().is_none(), "it is built already");

    // Under way, so that they are not simply forgotten.
    let mut waiting = Vec::new();
    let refused = (0..10).find_map(|at| {
        let (_, recipe) = large(&format!("w{at}"));
        let name = recipe.name().to_owned();
        if let Err(error) = templates.check_room(team, &recipe) {
            return Some((at, error));
        }
        templates.add(Arc::new(recipe)).unwrap();
        waiting.push(templates.start(&name).unwrap());
        None
    });
    let (at, error) = refused.unwrap();
    assert!((2..8).contains(&at), "{at}");
    assert!(matches!(error, Error::Busy(_)), "{error}");
    // What was given up makes room.
    drop(waiting);
    for _ in 0..200 {
        if templates.check_room(team, &large("more").1).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there is no room");
}

#[tokio::test]
async fn templates_do_not_stand_on_each_other_without_end() {
    let (dir, clerk) = (tempfile::tempdir().unwrap(), Arc::new(Clerk::default()));
    let templates = open(dir.path(), "one");
    let mut parent = "ground".to_owned();
    for _ in 0..crate::template::MAX_DEPTH {
        parent = add(&templates, plan(&parent, "a"), &clerk);
    }
    let one_more = Derived::new(plan(&parent, "a"), clerk);
    assert!(matches!(templates.add(Arc::new(one_more)), Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn files_are_packed_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = File { path: "a/b".into(), mode: 0o7755, content: b"x".into() };
    let files = Files(vec![file]);
    assert_eq!(files.weight(), "a/bx".len());
    let packed = files.pack(&Template::of(&[]), dir.path(), &|_| ()).await.unwrap();
    let mut archive = tar::Archive::new(fs::File::open(packed).unwrap());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("a/b"));
    assert_eq!(entry.header().mode().unwrap(), 0o755, "no set-user-id bit");
}
