//! What each adapter turns options into.

use super::*;

fn flags(permissions: Permissions) -> Vec<String> {
    let options = Options { permissions, ..Options::default() };
    let deno = find("deno").unwrap();
    deno.invocation(&options, "/home/user/main.ts").unwrap().argv
}

#[test]
fn nothing_is_allowed_unless_it_is_granted() {
    let argv = flags(Permissions::default());
    assert!(!argv.iter().any(|word| word.starts_with("--allow") || word == "-A"), "{argv:?}");
    assert!(argv.contains(&"--no-prompt".to_owned()));
}

#[test]
fn each_kind_of_permission_is_none_all_or_a_list() {
    type Set = fn(&mut Permissions, Grant);
    let kinds: [(&str, Set); 5] = [
        ("net", |p, grant| p.net = grant),
        ("read", |p, grant| p.read = grant),
        ("write", |p, grant| p.write = grant),
        ("env", |p, grant| p.env = grant),
        ("run", |p, grant| p.run = grant),
    ];
    for (name, set) in kinds {
        let of = |value: &str| {
            let mut permissions = Permissions::default();
            set(&mut permissions, Grant::parse(value).unwrap());
            let argv = flags(permissions);
            argv.into_iter().filter(|word| word.starts_with("--allow")).collect::<Vec<_>>()
        };
        assert_eq!(of(""), [format!("--allow-{name}")]);
        assert_eq!(of("a.example,b"), [format!("--allow-{name}=a.example,b")]);
    }
    assert!(Grant::parse("a,,b").is_err());
    assert!(Grant::parse("a\nb").is_err());
}

#[test]
fn an_option_of_another_runtime_is_refused_by_name() {
    let options = Options { small: true, ..Options::default() };
    options.check(find("bun").unwrap()).unwrap();
    let refused = options.check(find("python").unwrap()).unwrap_err();
    assert!(refused.to_string().contains("--smol"), "{refused}");
}

#[test]
fn a_sandbox_is_as_large_as_was_asked_and_else_as_the_runtime_needs() {
    let (browser, node) = (find("browser").unwrap(), find("node").unwrap());
    let usual = Options::default();
    assert_eq!(node.limits(&usual), Limits::default());
    assert_eq!(browser.limits(&usual).memory_bytes, Some(1 << 30));
    let limits = Limits { cpu_millis: Some(500), memory_bytes: Some(2 << 30) };
    let asked = Options { limits, ..Options::default() };
    for adapter in all() {
        assert_eq!(adapter.limits(&asked), limits);
        asked.check(*adapter).unwrap();
    }
}

#[test]
fn programs_run_where_they_are_told_and_what_is_none_does_not() {
    for (cwd, directory) in
        [(None, "/home/user"), (Some("a/b"), "/home/user/a/b"), (Some("/tmp"), "/tmp")]
    {
        let options = Options { cwd: cwd.map(str::to_owned), ..Options::default() };
        assert_eq!(options.directory(), directory);
        for name in ["cloudflare-workers", "vercel-edge", "browser", "deno-deploy"] {
            let refused = options.check(find(name).unwrap());
            assert_eq!(refused.is_err(), cwd.is_some(), "{name}");
        }
        for name in ["python", "node", "deno", "bun"] {
            options.check(find(name).unwrap()).unwrap();
        }
    }
}

#[test]
fn bun_takes_switches_of_its_engine() {
    let jsc = Jsc { heap_bytes: Some(64 << 20), jit: Some(false) };
    let options = Options { jsc, small: true, ..Options::default() };
    let run = find("bun").unwrap().invocation(&options, "/a.ts").unwrap();
    assert_eq!(run.argv[1..], ["--smol", "run", "/a.ts"]);
    assert_eq!(run.env["BUN_JSC_forceRAMSize"], "67108864");
    assert_eq!(run.env["BUN_JSC_useJIT"], "0");
    let tiny = Options { jsc: Jsc { heap_bytes: Some(1), jit: None }, ..Options::default() };
    assert!(find("bun").unwrap().invocation(&tiny, "/a.ts").is_err());
}

#[test]
fn features_are_names_and_no_flags() {
    let with = |feature: &str| {
        let options = Options { unstable: vec![feature.into()], ..Options::default() };
        find("deno").unwrap().invocation(&options, "/a.ts").map(|run| run.argv)
    };
    assert!(with("kv").unwrap().contains(&"--unstable-kv".to_owned()));
    for bad in ["", "kv --allow-all", "KV", "kv\n"] {
        assert!(with(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_missing_permission_is_told_as_one() {
    let said = "error: Uncaught (in promise) NotCapable: Requires net access to \"example.org:443\", \
                run again with the --allow-net flag\n    at x";
    let found = find("deno").unwrap().diagnose(said).unwrap();
    assert_eq!(found.kind, "permission-denied");
    assert!(found.message.contains("example.org:443") && found.advice.contains("--allow-net"));
    assert_eq!(find("deno").unwrap().diagnose("error: Uncaught Error: no"), None);
}

#[test]
fn templates_are_made_once_and_say_what_they_are_made_of() {
    let plans = plans();
    let mut prints: Vec<_> = plans.iter().map(Plan::fingerprint).collect();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), plans.len());
    assert_eq!(plans.iter().filter(|plan| plan.name.as_deref() == Some("deno")).count(), 1);
}

#[test]
fn a_request_is_a_path() {
    let ask = |path: &str| {
        let options = Options { request: Some(path.into()), ..Options::default() };
        find("workerd").unwrap().invocation(&options, "/w.mjs")
    };
    assert!(ask("/a?b=c").is_ok());
    for bad in ["a", "", "/a b", "/a\r\nhost: x"] {
        assert!(ask(bad).is_err(), "{bad}");
    }
}

#[test]
fn detection_and_adapters_mean_the_same_by_a_name() {
    use crate::detect::Runtime;
    for runtime in Runtime::ALL {
        let found = find(runtime.id()).unwrap();
        assert_eq!(found.name(), runtime.id());
        assert_eq!(found.template(), runtime.template());
    }
    assert_eq!(all().len(), Runtime::ALL.len());
    assert!(find("base").is_none());
    assert_eq!(find("workerd").unwrap().name(), "cloudflare-workers");
}

#[test]
fn a_page_reaches_what_it_is_granted_and_says_where_its_results_lie() {
    let browser = find("browser").unwrap();
    let net = |net| Options {
        permissions: Permissions { net, ..Permissions::default() },
        ..Options::default()
    };
    assert_eq!(browser.reach(&Options::default()), Some(Grant::None));
    let some = Grant::Only(vec!["example.org".into()]);
    assert_eq!(browser.reach(&net(some.clone())), Some(some));
    let files = Permissions { read: Grant::All, ..Permissions::default() };
    let files = Options { permissions: files, ..Options::default() };
    assert!(files.check(browser).is_err());

    let page =
        Page { dom: true, screenshot: true, size: Some((320, 200)), until: Some("a b".into()) };
    let run = browser.invocation(&Options { page, ..Options::default() }, "/a.html").unwrap();
    let (dom, screenshot) = (run.results.dom.unwrap(), run.results.screenshot.unwrap());
    assert_eq!(
        run.argv[1..],
        [
            format!("--dom={dom}"),
            format!("--screenshot={screenshot}"),
            "--size=320x200".to_owned(),
            "--until=a b".to_owned(),
            "/a.html".to_owned(),
        ]
    );
    for size in [(0, 1), (1, 9000)] {
        let page = Page { size: Some(size), ..Page::default() };
        assert!(browser.invocation(&Options { page, ..Options::default() }, "/a.html").is_err());
    }
}
