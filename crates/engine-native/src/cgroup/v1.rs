//! cgroup version 1: one hierarchy per controller.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use soulbox_engine::Usage;
use soulbox_model::Resources;

use super::{
    CPU_PERIOD_US, Cgroups, Membership, Throttle, directories, keyed, kill_listed, mkdir,
    open_for_writing, quota_us, read, read_number, rmdir, write,
};

/// Devices that may be used; the parent group holds the list once for all sandboxes.
const DEVICES: &[&str] = &[
    "c 1:3 rwm",   // null
    "c 1:5 rwm",   // zero
    "c 1:7 rwm",   // full
    "c 1:8 rwm",   // random
    "c 1:9 rwm",   // urandom
    "c 5:0 rwm",   // tty
    "c 5:2 rwm",   // ptmx
    "c 136:* rwm", // pts
];

#[derive(Debug)]
pub(crate) struct V1 {
    memory: PathBuf,
    cpu: PathBuf,
    cpuacct: PathBuf,
    pids: PathBuf,
    devices: Option<PathBuf>,
    /// Only where there is something to throttle.
    blkio: Option<PathBuf>,
    throttle: Throttle,
}

impl V1 {
    pub(super) fn open(root: &Path, instance: &str, throttle: Throttle) -> io::Result<Self> {
        let mounted = controllers(root)?;
        let parent = |controller: &str| -> io::Result<PathBuf> {
            let hierarchy = mounted.get(controller).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("controller `{controller}` is not mounted below {}", root.display()),
                )
            })?;
            let soulbox = hierarchy.join("soulbox");
            let path = soulbox.join(instance);
            mkdir(&soulbox)?;
            mkdir(&path)?;
            Ok(path)
        };
        let groups = Self {
            memory: parent("memory")?,
            cpu: parent("cpu")?,
            cpuacct: parent("cpuacct")?,
            pids: parent("pids")?,
            devices: parent("devices").ok(),
            blkio: (!throttle.is_empty()).then(|| parent("blkio").ok()).flatten(),
            throttle,
        };
        // Without it a limit would bind the group alone and not what is made below it; always on since 5.11.
        let _ = write(&groups.memory.join("memory.use_hierarchy"), "1");
        if let Some(devices) = &groups.devices {
            write(&devices.join("devices.deny"), "a")?;
            for device in DEVICES {
                write(&devices.join("devices.allow"), device)?;
            }
        }
        Ok(groups)
    }

    /// The directories of one group, each once (`cpu` and `cpuacct` are often one hierarchy).
    fn directories(&self, name: &str) -> Vec<PathBuf> {
        let mut all = vec![self.memory.join(name), self.cpu.join(name), self.pids.join(name)];
        if self.cpuacct != self.cpu {
            all.push(self.cpuacct.join(name));
        }
        all.extend(self.blkio.as_ref().map(|blkio| blkio.join(name)));
        all
    }
}

/// Which controller is mounted where: `root/<any>/`, with links such as `cpu -> cpu,cpuacct` resolved.
fn controllers(root: &Path) -> io::Result<BTreeMap<&'static str, PathBuf>> {
    let mut found = BTreeMap::new();
    for (controller, file) in [
        ("memory", "memory.limit_in_bytes"),
        ("cpu", "cpu.cfs_quota_us"),
        ("cpuacct", "cpuacct.usage"),
        ("pids", "cgroup.procs"),
        ("devices", "devices.list"),
        ("blkio", "blkio.throttle.read_bps_device"),
    ] {
        let path = root.join(controller);
        // Some root groups hide their limit files; the controller's own directory is the evidence then.
        if path.join(file).exists() || path.join("cgroup.procs").exists() {
            found.insert(controller, fs::canonicalize(path)?);
        }
    }
    Ok(found)
}

impl Cgroups for V1 {
    fn version(&self) -> u8 {
        1
    }

    fn create(&self, name: &str) -> io::Result<Membership> {
        let mut membership = Membership::default();
        for path in self.directories(name) {
            fs::create_dir(&path)?;
            membership.v1.push(open_for_writing(&path.join("tasks"))?);
        }
        if let Some(blkio) = &self.blkio {
            self.throttle.write_v1(&blkio.join(name))?;
        }
        if let Some(devices) = &self.devices {
            membership.v1.push(open_for_writing(&devices.join("tasks"))?);
        }
        Ok(membership)
    }

    fn limit(&self, name: &str, resources: &Resources) -> io::Result<()> {
        for (path, value) in self.files(resources) {
            let (controller, file) = path.split_once('/').ok_or(io::ErrorKind::InvalidInput)?;
            let parent = match controller {
                "memory" => &self.memory,
                "cpu" => &self.cpu,
                _ => &self.pids,
            };
            write(&parent.join(name).join(file), value)?;
        }
        // Memory and swap together: no swap. Absent without swap accounting.
        let swap = self.memory.join(name).join("memory.memsw.limit_in_bytes");
        if swap.exists() {
            write(&swap, resources.memory_bytes.to_string())?;
        }
        Ok(())
    }

    fn files(&self, resources: &Resources) -> Vec<(&'static str, String)> {
        vec![
            ("memory/memory.limit_in_bytes", resources.memory_bytes.to_string()),
            ("cpu/cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
            ("cpu/cpu.cfs_quota_us", quota_us(resources).to_string()),
            ("pids/pids.max", resources.pids.to_string()),
        ]
    }

    fn usage(&self, name: &str) -> io::Result<Usage> {
        let memory = self.memory.join(name);
        let cache = keyed(&read(&memory.join("memory.stat"))?, "total_cache");
        let oom = keyed(&read(&memory.join("memory.oom_control"))?, "oom_kill");
        Ok(Usage {
            cpu_nanos: read_number(&self.cpuacct.join(name).join("cpuacct.usage"))?,
            memory_bytes: read_number(&memory.join("memory.usage_in_bytes"))?,
            memory_peak_bytes: read_number(&memory.join("memory.max_usage_in_bytes")).unwrap_or(0),
            memory_cache_bytes: cache.unwrap_or(0),
            disk_bytes: 0,
            pids: read_number(&self.pids.join(name).join("pids.current"))?,
            oom_kills: oom.unwrap_or(0),
        })
    }

    fn kill(&self, name: &str) -> io::Result<()> {
        kill_listed(&self.pids.join(name).join("cgroup.procs"))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directories(name).iter().try_for_each(|path| rmdir(path))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let parents = [&self.memory, &self.cpu, &self.cpuacct, &self.pids];
        for parent in parents.into_iter().chain(&self.blkio) {
            names.extend(directories(parent)?);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn parents(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = vec![&self.memory, &self.cpu, &self.cpuacct, &self.pids];
        all.extend(self.devices.as_deref());
        all.extend(self.blkio.as_deref());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that a mounted version 1 hierarchy has, in a plain directory.
    fn fake_root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for controller in ["memory", "cpu", "cpuacct", "pids", "devices"] {
            let path = root.path().join(controller);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
        let devices = root.path().join("devices/soulbox/test");
        fs::create_dir_all(devices).unwrap();
        root
    }

    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let root = fake_root();
        let groups = V1::open(root.path(), "test", Throttle::default()).unwrap();
        for path in groups.directories("7") {
            fs::create_dir(path).unwrap();
        }
        let resources =
            Resources { cpu_millis: 500, memory_bytes: 64 << 20, disk_bytes: 0, pids: 33 };
        groups.limit("7", &resources).unwrap();
        let file = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(file("memory/soulbox/test/7/memory.limit_in_bytes"), "67108864");
        assert_eq!(file("cpu/soulbox/test/7/cpu.cfs_period_us"), "20000");
        assert_eq!(file("cpu/soulbox/test/7/cpu.cfs_quota_us"), "10000");
        assert_eq!(file("pids/soulbox/test/7/pids.max"), "33");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let root = fake_root();
        fs::remove_dir_all(root.path().join("pids")).unwrap();
        let error = V1::open(root.path(), "test", Throttle::default()).unwrap_err().to_string();
        assert!(error.contains("`pids`"), "{error}");
    }
}
