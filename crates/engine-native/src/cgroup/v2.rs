//! cgroup version 2: one hierarchy for all controllers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use soulbox_engine::Usage;
use soulbox_model::Resources;

use super::{
    CPU_PERIOD_US, Cgroups, Membership, Throttle, directories, keyed, mkdir, open_for_writing,
    quota_us, read, read_number, rmdir, write,
};

/// How often to move what is in a container's own group before giving up.
const MOVE_ROUNDS: usize = 8;

const CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];
const THROTTLING: &str = "io";

#[derive(Debug)]
pub(crate) struct V2 {
    parent: PathBuf,
    /// Empty where the kernel has no `io` controller.
    throttle: Throttle,
}

impl V2 {
    pub(super) fn open(root: &Path, instance: &str, throttle: Throttle) -> io::Result<Self> {
        let available = read(&root.join("cgroup.controllers"))?;
        let has = |controller: &str| available.split_whitespace().any(|name| name == controller);
        for controller in CONTROLLERS {
            if !has(controller) {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("controller `{controller}` is not in {}", root.display()),
                ));
            }
        }
        let soulbox = root.join("soulbox");
        let parent = soulbox.join(instance);
        let throttle = if has(THROTTLING) { throttle } else { Throttle::default() };
        let optional = (!throttle.is_empty()).then_some(&THROTTLING);
        let enable: Vec<String> =
            CONTROLLERS.iter().chain(optional).map(|name| format!("+{name}")).collect();
        let enable = enable.join(" ");
        enable_at_root(root, &enable)?;
        mkdir(&soulbox)?;
        write(&soulbox.join("cgroup.subtree_control"), &enable)?;
        mkdir(&parent)?;
        write(&parent.join("cgroup.subtree_control"), &enable)?;
        Ok(Self { parent, throttle })
    }
}

/// Enables controllers for the groups below `root`.
///
/// In a container `root` is an ordinary group, and one that holds processes cannot have controllers
/// below it: they go down into a group of their own, as nested container engines do it.
fn enable_at_root(root: &Path, controllers: &str) -> io::Result<()> {
    let control = root.join("cgroup.subtree_control");
    match write(&control, controllers) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
        done => return done,
    }
    let leaf = root.join("init");
    mkdir(&leaf)?;
    // Processes may start others meanwhile.
    for _ in 0..MOVE_ROUNDS {
        for pid in fs::read_to_string(root.join("cgroup.procs"))?.lines() {
            // It may have ended, or be a thread of the kernel.
            let _ = write(&leaf.join("cgroup.procs"), pid);
        }
        match write(&control, controllers) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            done => return done,
        }
    }
    write(&control, controllers)
}

impl Cgroups for V2 {
    fn version(&self) -> u8 {
        2
    }

    fn create(&self, name: &str) -> io::Result<Membership> {
        let path = self.parent.join(name);
        fs::create_dir(&path)?;
        self.throttle.write_v2(&path)?;
        let procs = open_for_writing(&path.join("cgroup.procs"))?;
        Ok(Membership { v1: Vec::new(), v2: Some(procs) })
    }

    fn limit(&self, name: &str, resources: &Resources) -> io::Result<()> {
        let path = self.parent.join(name);
        for (file, value) in self.files(resources) {
            write(&path.join(file), value)?;
        }
        // Absent on kernels without swap accounting.
        let swap = path.join("memory.swap.max");
        if swap.exists() {
            write(&swap, "0")?;
        }
        Ok(())
    }

    fn files(&self, resources: &Resources) -> Vec<(&'static str, String)> {
        vec![
            ("memory.max", resources.memory_bytes.to_string()),
            ("cpu.max", format!("{} {CPU_PERIOD_US}", quota_us(resources))),
            ("pids.max", resources.pids.to_string()),
        ]
    }

    fn usage(&self, name: &str) -> io::Result<Usage> {
        let path = self.parent.join(name);
        let cpu = keyed(&read(&path.join("cpu.stat"))?, "usage_usec").unwrap_or(0);
        let cache = keyed(&read(&path.join("memory.stat"))?, "file").unwrap_or(0);
        let oom = keyed(&read(&path.join("memory.events"))?, "oom_kill").unwrap_or(0);
        Ok(Usage {
            cpu_nanos: cpu * 1000,
            memory_bytes: read_number(&path.join("memory.current"))?,
            // Of Linux 5.19.
            memory_peak_bytes: read_number(&path.join("memory.peak")).unwrap_or(0),
            memory_cache_bytes: cache,
            disk_bytes: 0,
            pids: read_number(&path.join("pids.current"))?,
            oom_kills: oom,
        })
    }

    fn kill(&self, name: &str) -> io::Result<()> {
        let path = self.parent.join(name);
        // `cgroup.kill` is of Linux 5.14.
        write(&path.join("cgroup.kill"), "1")
            .or_else(|_| super::kill_listed(&path.join("cgroup.procs")))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        rmdir(&self.parent.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        directories(&self.parent)
    }

    fn parents(&self) -> Vec<&Path> {
        vec![&self.parent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake_root(controllers: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), controllers).unwrap();
        root
    }

    #[test]
    fn a_hybrid_hierarchy_without_controllers_is_refused() {
        let root = fake_root("hugetlb\n");
        let error = V2::open(root.path(), "test", Throttle::default()).unwrap_err().to_string();
        assert!(error.contains("`cpu`"), "{error}");
    }

    #[test]
    fn controllers_are_enabled_on_every_level_and_limits_written() {
        let root = fake_root("cpuset cpu io memory hugetlb pids\n");
        let groups = V2::open(root.path(), "test", Throttle::default()).unwrap();
        let file = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        for level in ["", "soulbox/", "soulbox/test/"] {
            assert_eq!(file(&format!("{level}cgroup.subtree_control")), "+cpu +memory +pids");
        }
        fs::create_dir(root.path().join("soulbox/test/3")).unwrap();
        let resources =
            Resources { cpu_millis: 1500, memory_bytes: 1 << 30, disk_bytes: 0, pids: 100 };
        groups.limit("3", &resources).unwrap();
        assert_eq!(file("soulbox/test/3/memory.max"), "1073741824");
        assert_eq!(file("soulbox/test/3/cpu.max"), "30000 20000");
        assert_eq!(file("soulbox/test/3/pids.max"), "100");
        assert_eq!(groups.names().unwrap(), ["3"]);
    }

    #[test]
    fn usage_is_read_from_the_kernels_files() {
        let root = fake_root("cpu memory pids");
        let groups = V2::open(root.path(), "test", Throttle::default()).unwrap();
        let path = root.path().join("soulbox/test/1");
        fs::create_dir(&path).unwrap();
        for (file, text) in [
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.stat", "anon 1\nfile 4096\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("memory.current", "8192\n"),
            ("pids.current", "3\n"),
        ] {
            fs::write(path.join(file), text).unwrap();
        }
        let usage = groups.usage("1").unwrap();
        assert_eq!((usage.cpu_nanos, usage.memory_bytes), (1_500_000, 8192));
        assert_eq!((usage.memory_cache_bytes, usage.pids, usage.oom_kills), (4096, 3, 1));
    }
}
