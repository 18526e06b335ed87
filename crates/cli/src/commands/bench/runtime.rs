//! The cold start of runtimes in a sandbox that is as fresh, against the same programs outside of any, and
//! what a project takes to be ready beyond its start command.

use std::{
    fs::File,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use soulbox_model::Resources;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{Figure, Interrupt, Machine, Report, Row, trip};
use crate::{
    client::{process::Config, remote::Launch},
    commands::{
        run::measure as project,
        subject::{Subject, fresh_dir, remove},
        template,
    },
    failure::{Failure, Result},
    output::Output,
    progress::Step,
    settings::Settings,
};

/// Not counted: the first ones load caches.
const WARM_UP: u32 = 2;
/// What a cold start may take: so many times what it takes outside, and the figure that is shown beyond it.
const FACTOR: f64 = 1.25;

/// A program that starts and ends.
#[derive(Debug)]
struct Cold {
    bare: &'static str,
    inside: &'static str,
    beyond: &'static str,
    template: &'static str,
    /// In the template's layer.
    file: &'static str,
    args: &'static [&'static str],
    /// Needs what lies beside it, and is started with that as root, which this machine made; else it needs no
    /// more than this machine's C library, and a copy is started, since a sandbox wrote the layer.
    rooted: bool,
}

const COLD: [Cold; 4] = [
    Cold {
        bare: "python3 -c 0, bare",
        inside: "python3 -c 0, fresh sandbox",
        beyond: "python3 beyond 1.25 × bare, p50",
        template: "base",
        file: "usr/bin/python3",
        args: &["-c", "0"],
        rooted: true,
    },
    Cold {
        bare: "node -e 0, bare",
        inside: "node -e 0, fresh sandbox",
        beyond: "node beyond 1.25 × bare, p50",
        template: "base",
        file: "usr/bin/node",
        args: &["-e", "0"],
        rooted: true,
    },
    Cold {
        bare: "bun -e 0, bare",
        inside: "bun -e 0, fresh sandbox",
        beyond: "bun beyond 1.25 × bare, p50",
        template: "bun",
        file: "opt/bun/bin/bun",
        args: &["-e", "0"],
        rooted: false,
    },
    Cold {
        bare: "deno eval 0, bare",
        inside: "deno eval 0, fresh sandbox",
        beyond: "deno beyond 1.25 × bare, p50",
        template: "deno",
        file: "opt/deno/deno",
        args: &["eval", "0"],
        rooted: false,
    },
];

/// A start that takes so long is none.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(settings: &Settings, number: u32, interrupt: &Interrupt) -> Result<Report> {
    let mut on = Subject::find(settings, Some("base".to_owned()), interrupt).await?;
    let measured = measure(&settings.output, &mut on, number, interrupt).await;
    let temporary_server = on.is_temporary();
    on.end().await;
    let (rows, figures) = measured?;
    Ok(Report {
        measured: "a runtime's program in a sandbox that never ran one, from the request to its exit \
                   code over HTTP; a project from `soulbox run` to ready",
        floor: "the same program, bare on this machine, with a sandbox's variables and an empty home; \
                the project's start command to ready in a sandbox that is there",
        template: "base, bun, deno".into(),
        samples: number as usize,
        rows,
        figures,
        machine: Machine::this(),
        temporary_server,
    })
}

async fn measure(
    output: &Output,
    on: &mut Subject,
    number: u32,
    interrupt: &Interrupt,
) -> Result<(Vec<Row>, Vec<Figure>)> {
    let templates = on.data_dir.as_ref().map(|dir| dir.join("store/templates"));
    let templates = templates.ok_or_else(|| Failure::Environment {
        message: "the server's templates are not on this machine, or not this user's".into(),
        hint: "run it as root beside the server".into(),
    })?;
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for cold in &COLD {
        template::ensure(&on.server, output, cold.template).await?;
        cold.template.clone_into(&mut on.template);
        let copies = fresh_dir("bare")?;
        let _gone = Gone(&copies);
        let mut shell = Shell::open(cold, &layer(&templates, cold)?, &copies)?;
        let step = Step::count(output, u64::from(number), cold.inside);
        let (mut bare, mut inside) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + number {
            interrupt.check()?;
            // One of each in turn: what the machine does meanwhile hits both alike.
            let outside = shell.start().await?;
            let within = within(on, cold).await?;
            if round >= WARM_UP {
                bare.push(outside);
                inside.push(within);
                step.advance(1);
            }
        }
        let floor = Row::floor(cold.bare, &mut bare);
        let above = Row::above(cold.inside, &mut inside, &floor);
        let value = above.summary.p50_ms - FACTOR * floor.summary.p50_ms;
        figures.push(Figure::new(cold.beyond, value, "ms"));
        rows.extend([floor, above]);
    }
    let (alone, whole) = projects(output, on, number, interrupt).await?;
    let value = whole.summary.p50_ms - alone.summary.p50_ms;
    let name = "project beyond its start command, p50";
    figures.push(Figure::new(name, value, "ms"));
    rows.extend([alone, whole]);
    Ok((rows, figures))
}

/// The root of the newest layer of a template that has the program.
fn layer(templates: &Path, cold: &Cold) -> Result<PathBuf> {
    let listed =
        std::fs::read_dir(templates).map_err(Failure::io(templates.display().to_string()))?;
    let prefix = format!("{}-", cold.template);
    let mine =
        listed.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let roots = mine.flat_map(|entry| {
        let rootfs = entry.path().join("rootfs");
        [rootfs.join("upper"), rootfs]
    });
    let made = |root: &PathBuf| std::fs::metadata(root).and_then(|about| about.modified()).ok();
    let found = roots.filter(|root| program(root, cold).is_ok()).max_by_key(made);
    found.ok_or_else(|| Failure::NotFound {
        message: format!("no template {} with {}", cold.template, cold.file),
        hint: None,
    })
}

/// The program in a layer, through no link: a sandbox may have written it.
fn program(root: &Path, cold: &Cold) -> io::Result<File> {
    let root =
        openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut inside = ResolveFlags::IN_ROOT;
    inside.set(ResolveFlags::NO_SYMLINKS, !cold.rooted);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat2(&root, cold.file, flags, Mode::empty(), inside)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Who runs programs outside: nobody, since they are not ours.
const NOBODY: u32 = 65534;
/// The user's of a sandbox, where the program's root is its template.
const HOME: &str = "/home/user";

/// Removes a directory when it is over.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        remove(self.0);
    }
}

/// Starts a program outside of any sandbox, as often as it is told to.
struct Shell {
    _shell: Child,
    orders: ChildStdin,
    codes: Lines<BufReader<ChildStdout>>,
    program: String,
    /// Where homes are made; none where the program's root has one.
    homes: Option<PathBuf>,
    started: u32,
    cold: &'static Cold,
}

impl Shell {
    fn open(cold: &'static Cold, root: &Path, copies: &Path) -> Result<Self> {
        let (mut command, program) = if cold.rooted {
            let mut command = Command::new("chroot");
            command.arg(format!("--userspec={NOBODY}:{NOBODY}")).arg(root).arg("/bin/sh");
            (command, format!("/{}", cold.file))
        } else {
            copy(root, cold, copies).map_err(Failure::io(cold.file))?;
            let mut command = Command::new("/bin/sh");
            command.current_dir(copies).uid(NOBODY).gid(NOBODY);
            (command, "./program".to_owned())
        };
        // As in a sandbox: a runtime that finds no home looks for another one at length.
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([("HOME", HOME), ("USER", "user"), ("LOGNAME", "user"), ("SHELL", "/bin/bash")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut shell = command.kill_on_drop(true).spawn().map_err(Failure::io("chroot"))?;
        let pipes = shell.stdin.take().zip(shell.stdout.take());
        let (orders, codes) =
            pipes.ok_or_else(|| Failure::Protocol("a shell without pipes".into()))?;
        let homes = (!cold.rooted).then(|| copies.to_owned());
        let codes = BufReader::new(codes).lines();
        Ok(Self { _shell: shell, orders, codes, program, homes, started: 0, cold })
    }

    /// An empty home, as a fresh sandbox has it, in words of the shell.
    fn home(&mut self) -> io::Result<String> {
        let Some(homes) = &self.homes else { return Ok(String::new()) };
        self.started += 1;
        let home = format!("home-{}", self.started);
        let made = homes.join(&home);
        std::fs::create_dir(&made)?;
        std::os::unix::fs::chown(&made, Some(NOBODY), Some(NOBODY))?;
        Ok(format!("HOME=$PWD/{home} "))
    }

    async fn start(&mut self) -> Result<Duration> {
        let home = self.home().map_err(Failure::io("a home"))?;
        let line = format!("{home}{} {}; echo $?\n", self.program, self.cold.args.join(" "));
        let began = Instant::now();
        self.orders.write_all(line.as_bytes()).await.map_err(Failure::io("a shell"))?;
        let code = timeout(LIMIT, self.codes.next_line()).await;
        let code =
            code.map_err(|_| Failure::CommandTimeout(LIMIT))?.map_err(Failure::io("a shell"))?;
        let took = began.elapsed();
        match code.as_deref() {
            Some("0") => Ok(took),
            code => Err(Failure::Environment {
                message: format!(
                    "{} of template {} ended with {} on this machine",
                    self.cold.file,
                    self.cold.template,
                    code.unwrap_or("nothing")
                ),
                hint: "it may not fit this machine: measure on another one".into(),
            }),
        }
    }
}

/// Puts the program where nobody can run it.
fn copy(root: &Path, cold: &Cold, copies: &Path) -> io::Result<()> {
    let all = || std::fs::Permissions::from_mode(0o755);
    let to = copies.join("program");
    io::copy(&mut program(root, cold)?, &mut File::create(&to)?)?;
    std::fs::set_permissions(to, all())?;
    std::fs::set_permissions(copies, all())
}

async fn within(on: &Subject, cold: &Cold) -> Result<Duration> {
    trip::in_one(on, async |remote| {
        let args = cold.args.iter().map(|&arg| arg.to_owned()).collect();
        let process = Config { cmd: format!("/{}", cold.file), args, ..Config::default() };
        let launch = Launch { process, ..Launch::default() };
        // What made it settles first: a cold start is the runtime's, and not the sandbox's.
        trip::settle().await;
        let began = Instant::now();
        trip::run(remote, &launch).await?;
        Ok(began.elapsed())
    })
    .await
}

/// A page from Python: its start command alone, and all of `soulbox run`.
async fn projects(
    output: &Output,
    on: &Subject,
    number: u32,
    interrupt: &Interrupt,
) -> Result<(Row, Row)> {
    let dir = fresh_dir("project")?;
    let measured = async {
        let memory = Resources::default().memory_bytes;
        std::fs::write(dir.join("soulbox.toml"), project::page(memory))
            .map_err(Failure::io("soulbox.toml"))?;
        let step = Step::count(output, u64::from(number), "running projects");
        let (mut alone, mut whole) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + number {
            interrupt.check()?;
            let times = project::once(&on.server, output, &dir).await?;
            if round >= WARM_UP {
                alone.push(times.alone);
                whole.push(times.whole);
                step.advance(1);
            }
        }
        let floor = Row::floor("start command to ready", &mut alone);
        let above = Row::above("soulbox run to ready", &mut whole, &floor);
        Ok((floor, above))
    };
    let measured = measured.await;
    remove(&dir);
    measured
}
