use std::{
    fs::{self, File},
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{WaitStatus, getuid},
};

use super::*;

fn strings(texts: &[&str]) -> Vec<CString> {
    texts.iter().map(|text| CString::new(*text).unwrap()).collect()
}

const UNEXECUTABLE: Unexecutable<'_> =
    Unexecutable { missing: b"missing\n", refused: b"refused\n" };

/// Runs to the end with the changes of `change`; standard output and error are one pipe.
fn run_with(
    argv: &[&str],
    change: impl for<'a> FnOnce(&mut Spawn<'a>, &'a [CString]),
) -> Result<(WaitStatus, String), Failed> {
    let (out, input) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let null = File::open("/dev/null").unwrap();
    let argv = strings(argv);
    let env = strings(&["PATH=/usr/bin:/bin", "MARK=seen"]);
    let mut spawn = Spawn {
        programs: &argv[..1],
        argv: &argv,
        env: &env,
        cwd: c"/",
        stdio: [null.as_fd(), input.as_fd(), input.as_fd()],
        terminal: false,
        user: None,
        oom_score_adj: None,
        unexecutable: UNEXECUTABLE,
    };
    change(&mut spawn, &argv);
    let child = super::spawn(&spawn)?;
    drop(input);
    let mut text = String::new();
    File::from(out).read_to_string(&mut text).unwrap();
    let (_, status) = waitpid(Some(child.pid), WaitOptions::empty()).unwrap().unwrap();
    Ok((status, text))
}

fn run(argv: &[&str]) -> (WaitStatus, String) {
    run_with(argv, |_, _| {}).unwrap()
}

fn sh(script: &str) -> (WaitStatus, String) {
    run(&["/bin/sh", "-c", script])
}

/// A fresh directory that any user may look into.
fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("spawn-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).unwrap();
    dir
}

#[test]
fn the_program_gets_what_was_given_and_nothing_else() {
    let (status, text) = sh("echo $MARK $HOME.; pwd; umask; exit 7");
    assert_eq!((status.exit_status(), text.as_str()), (Some(7), "seen .\n/\n0022\n"));
    let (_, fds) = run(&["/bin/ls", "/proc/self/fd"]);
    // The fourth is the directory that `ls` reads.
    assert_eq!(fds, "0\n1\n2\n3\n");
}

#[test]
fn signals_are_as_a_fresh_process_expects() {
    // A test, like every Rust program, ignores SIGPIPE.
    let (_, status) = run(&["/bin/grep", "^Sig[BI]", "/proc/self/status"]);
    assert_eq!(status, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    let (status, _) = sh("kill -PIPE $$");
    assert_eq!(status.terminating_signal(), Some(libc::SIGPIPE));
}

#[test]
fn every_process_leads_a_session() {
    let (_, text) = sh("cut -d' ' -f1,6 /proc/$$/stat");
    let (pid, session) = text.trim().split_once(' ').unwrap();
    assert_eq!(pid, session);
}

#[test]
fn credentials_change_in_the_child_only() {
    let (_, text) = run_with(&["/usr/bin/id"], |spawn, _| {
        spawn.user = Some(Credentials { uid: 12345, gid: 23456, groups: &[23456, 34567] });
    })
    .unwrap();
    assert_eq!(text.trim(), "uid=12345 gid=23456 groups=23456,34567");
    assert!(getuid().is_root());
}

#[test]
fn the_directory_is_entered_as_the_user() {
    let dir = scratch("private");
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let path = CString::new(dir.to_str().unwrap()).unwrap();
    let failed = run_with(&["/bin/true"], |spawn, _| {
        spawn.user = Some(Credentials { uid: 12345, gid: 23456, groups: &[] });
        spawn.cwd = Box::leak(path.into_boxed_c_str());
    })
    .unwrap_err();
    assert_eq!((failed.step, failed.source.raw_os_error()), ("chdir", Some(libc::EACCES)));
    fs::remove_dir(dir).unwrap();
}

#[test]
fn an_unexecutable_program_does_as_a_shell_does() {
    let dir = scratch("exec");
    let text_file = dir.join("text");
    fs::write(&text_file, "no program").unwrap();
    let outcome = |program: &Path| {
        let (status, text) = run_with(&[program.to_str().unwrap()], |_, _| {}).unwrap();
        (status.exit_status().unwrap(), text)
    };
    assert_eq!(outcome(&dir.join("none")), (127, "missing\n".to_owned()));
    assert_eq!(outcome(&text_file), (126, "refused\n".to_owned()));
    assert_eq!(outcome(&dir), (126, "refused\n".to_owned()));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn programs_are_tried_in_order_and_scripts_need_no_first_line() {
    let dir = scratch("path");
    let script = dir.join("script");
    fs::write(&script, "echo $0 $1").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let script = script.to_str().unwrap().to_owned();
    let programs: &[CString] =
        Box::leak(strings(&["/nowhere/script", &script, "/bin/false"]).into());
    let (status, text) = run_with(&["script", "argument"], |spawn, _| {
        spawn.programs = programs;
    })
    .unwrap();
    assert_eq!((status.exit_status(), text), (Some(0), format!("{script} argument\n")));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn arguments_that_are_too_long_fail_the_start() {
    let long = "x".repeat(1 << 20);
    let failed = run_with(&["/bin/true", &long], |_, _| {}).unwrap_err();
    assert_eq!((failed.step, failed.source.raw_os_error()), ("execve", Some(libc::E2BIG)));
}

#[test]
fn a_failed_start_leaves_no_zombie() {
    for _ in 0..10 {
        run_with(&["/bin/true"], |spawn, _| spawn.cwd = c"/nowhere").unwrap_err();
    }
    assert_eq!(fs::read_to_string("/proc/thread-self/children").unwrap(), "");
}

#[test]
fn the_oom_score_is_the_childs_own() {
    let mine = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    for score in [0, 7, 500, 1000] {
        let (_, text) = run_with(&["/bin/cat", "/proc/self/oom_score_adj"], |spawn, _| {
            spawn.oom_score_adj = Some(score);
        })
        .unwrap();
        assert_eq!(text.trim(), score.to_string());
    }
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), mine);
}

#[test]
fn a_terminal_becomes_the_controlling_one() {
    let pty = crate::pty::open(crate::pty::Size { cols: 80, rows: 24 }, 0).unwrap();
    let argv = strings(&["/bin/sh", "-c", "echo through the name > /dev/tty"]);
    let slave = pty.slave.as_fd();
    let child = super::spawn(&Spawn {
        programs: &argv[..1],
        argv: &argv,
        env: &[],
        cwd: c"/",
        stdio: [slave; 3],
        terminal: true,
        user: None,
        oom_score_adj: None,
        unexecutable: UNEXECUTABLE,
    })
    .unwrap();
    waitpid(Some(child.pid), WaitOptions::empty()).unwrap();
    let mut buffer = [0; 64];
    let read = rustix::io::read(&pty.master, &mut buffer).unwrap();
    assert_eq!(&buffer[..read], b"through the name\r\n");
}

#[test]
fn descriptors_of_whoever_started_us_close_on_exec() {
    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
    let file = std::fs::File::open("/dev/null").unwrap();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    close_all_on_exec().unwrap();
    assert_eq!(fcntl_getfd(&file).unwrap(), FdFlags::CLOEXEC);
}
