//! What this kernel and machine can do, in words that say what to do about what is missing.

use std::{fs, os::fd::AsFd, path::Path, process::Command};

use rustix::mount::MountAttrFlags;
use soulbox_engine::{Check, CheckStatus};
use soulbox_sys::{mount, userns};

use crate::cgroup;

/// Looks at everything that the native engine needs; changes nothing that stays, except that it loads
/// modules of the kernel that the engine would load.
pub fn checks(data_dir: &Path) -> Vec<Check> {
    vec![
        kernel(),
        root(),
        user_namespaces(),
        cgroups(),
        overlay(),
        idmapped_mounts(data_dir),
        store(),
        mkfs(),
        seccomp(),
        swap(),
    ]
}

fn check(name: &str, status: CheckStatus, detail: impl Into<String>, advice: &str) -> Check {
    let advice = (status != CheckStatus::Ok).then(|| advice.to_owned());
    Check { name: name.into(), status, detail: detail.into(), advice }
}

/// The kernel's release, and its first two numbers.
fn release() -> (String, (u32, u32)) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

fn kernel() -> Check {
    let (release, version) = release();
    let status = if version >= (5, 19) { CheckStatus::Ok } else { CheckStatus::Missing };
    check(
        "kernel",
        status,
        format!("Linux {release}"),
        "use Linux 5.19 or later: overlayfs on idmapped layers came with it",
    )
}

fn root() -> Check {
    let root = rustix::process::geteuid().is_root();
    let status = if root { CheckStatus::Ok } else { CheckStatus::Missing };
    let detail = if root { "running as root" } else { "not running as root" };
    check("root", status, detail, "run the server with sudo or as a system service")
}

fn user_namespaces() -> Check {
    match userns::create(0x7FFE_0000) {
        Ok(_) => check("user namespaces", CheckStatus::Ok, "65536 ids each", ""),
        Err(error) => check(
            "user namespaces",
            CheckStatus::Missing,
            error.to_string(),
            "run as root, with `sysctl user.max_user_namespaces` above 0 and outside of a restricted container",
        ),
    }
}

fn cgroups() -> Check {
    const PROBE: &str = "doctor";
    let root = Path::new("/sys/fs/cgroup");
    match cgroup::detect(root, PROBE, cgroup::Throttle::default()) {
        Ok(groups) => {
            let version = groups.version();
            groups.close();
            check("cgroups", CheckStatus::Ok, format!("version {version}: cpu, memory, pids"), "")
        }
        Err(error) => check(
            "cgroups",
            CheckStatus::Missing,
            error.to_string(),
            "mount the cpu, memory and pids controllers (version 2: enable them in the parent's cgroup.subtree_control)",
        ),
    }
}

fn overlay() -> Check {
    let status = if mount::knows(c"overlay") { CheckStatus::Ok } else { CheckStatus::Missing };
    check(
        "overlayfs",
        status,
        "joins templates and writable layers",
        "use a kernel with overlayfs and its module installed: modprobe overlay says what is wrong",
    )
}

fn idmapped_mounts(data_dir: &Path) -> Check {
    const NAME: &str = "idmapped mounts";
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let probe = || {
        let userns = userns::create(0x7FFE_0000)?;
        let path = existing.to_str().ok_or(std::io::ErrorKind::InvalidInput)?;
        let copy = mount::clone_at(rustix::fs::CWD, path)?;
        mount::set_attributes(copy.as_fd(), MountAttrFlags::empty(), Some(userns.as_fd()))
    };
    match probe() {
        Ok(()) => check(NAME, CheckStatus::Ok, format!("work on {}", existing.display()), ""),
        Err(error) => check(
            NAME,
            CheckStatus::Degraded,
            format!("{}: {error}", existing.display()),
            "keep the data directory on ext4, xfs or btrfs",
        ),
    }
}

fn store() -> Check {
    const NAME: &str = "sandbox store";
    if !mount::knows(c"btrfs") {
        let advice = "a kernel with btrfs keeps on disk what sandboxes write";
        return check(NAME, CheckStatus::Degraded, "no btrfs: sandboxes write to memory", advice);
    }
    let quota = if release().1 < (6, 7) {
        "full quotas; simple ones need Linux 6.7"
    } else {
        "simple quotas"
    };
    check(NAME, CheckStatus::Ok, format!("btrfs with {quota}"), "")
}

fn mkfs() -> Check {
    let found = Command::new("mkfs.btrfs").arg("--version").output();
    match found {
        Ok(output) => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            check("mkfs.btrfs", CheckStatus::Ok, version, "")
        }
        Err(_) => check(
            "mkfs.btrfs",
            CheckStatus::Degraded,
            "not found: sandboxes write to memory",
            "apt-get install btrfs-progs",
        ),
    }
}

fn seccomp() -> Check {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let status = if actions.contains("errno") { CheckStatus::Ok } else { CheckStatus::Missing };
    check("seccomp", status, actions.trim(), "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn swap() -> Check {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count() > 1;
    let detail = if swaps { "the machine swaps; sandboxes do not" } else { "no swap" };
    check("swap", CheckStatus::Ok, detail, "")
}
