//! More than the share: memory, processes, disk, descriptors, time of others.

mod disk;
mod memory;
mod processes;
mod shared;

use std::time::{Duration, Instant};

use crate::{
    attack::{Attack, Fault, Group::Resources, How, hold},
    field::Field,
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "res-fork-bomb",
        group: Resources,
        title: "a fork bomb, until the limit of processes and on",
        defence: "limit of processes per cgroup; the end kills the cgroup as a whole",
        remains: "processes of one template wait for the locks of the files that they share",
        how: How::Once(processes::fork_bomb),
    },
    Attack {
        id: "res-threads",
        group: Resources,
        title: "threads instead of processes",
        defence: "they count against the same limit",
        remains: "",
        how: How::Each(processes::threads),
    },
    Attack {
        id: "res-hiding-processes",
        group: Resources,
        title: "signals ignored, double forks, sessions of their own, to outlive the sandbox",
        defence: "the end is of the cgroup and of the pid namespace, not of a list of processes",
        remains: "",
        how: How::Each(processes::hiding),
    },
    Attack {
        id: "res-command-limit",
        group: Resources,
        title: "a command that ignores polite signals at its time limit",
        defence: "the agent sends SIGKILL",
        remains: "what a command started in sessions of its own lives on until the sandbox ends",
        how: How::Once(processes::command_limit),
    },
    Attack {
        id: "res-api-hoard",
        group: Resources,
        title: "hundreds of processes, terminals and watchers through the API",
        defence: "limits of processes and terminals per sandbox, of watches per user namespace",
        remains: "",
        how: How::Once(processes::api_hoard),
    },
    Attack {
        id: "res-memory",
        group: Resources,
        title: "memory touched beyond the limit",
        defence: "memory limit per cgroup: what is killed is inside, and the client is told",
        remains: "",
        how: How::Each(memory::beyond_the_limit),
    },
    Attack {
        id: "res-files-in-memory",
        group: Resources,
        title: "`/dev/shm` filled with twice the memory",
        defence: "charged to the sandbox",
        remains: "",
        how: How::Each(memory::files_in_memory),
    },
    Attack {
        id: "res-kernel-memory",
        group: Resources,
        title: "memory that is in no process: memfd, huge pages, SysV segments, pipes, socket buffers",
        defence: "charged to the sandbox, or bounded per user",
        remains: "",
        how: How::Once(memory::kernel_memory),
    },
    Attack {
        id: "res-disk",
        group: Resources,
        title: "a disk filled beyond its limit",
        defence: "size limit on the writable layer",
        remains: "",
        how: How::Once(disk::beyond_the_limit),
    },
    Attack {
        id: "res-inodes",
        group: Resources,
        title: "empty files as fast as they can be made",
        defence: "metadata counts against the size limit; inodes of a layer are its own",
        remains: "",
        how: How::Once(disk::inodes),
    },
    Attack {
        id: "res-disk-storm",
        group: Resources,
        title: "four processes that bring every small write to the disk",
        defence: "`volatile` overlays do not wait for the disk",
        remains: "how much a sandbox may read and write per second is bounded only where the server is told so",
        how: How::Once(disk::storm),
    },
    Attack {
        id: "res-output-flood",
        group: Resources,
        title: "endless output that nobody reads",
        defence: "bounded buffers: the process waits",
        remains: "",
        how: How::Once(shared::output_flood),
    },
    Attack {
        id: "res-processors",
        group: Resources,
        title: "more busy processes than processors",
        defence: "processor time per cgroup, by quota and by weight",
        remains: "memory bandwidth and caches are shared",
        how: How::Once(shared::processors),
    },
    Attack {
        id: "res-hoard",
        group: Resources,
        title: "inotify instances, asynchronous I/O, timers, message queues, terminals until none is left",
        defence: "counted per user namespace, which each sandbox owns; no machine-wide pools",
        remains: "",
        how: How::Each(shared::hoard),
    },
    Attack {
        id: "res-descriptors",
        group: Resources,
        title: "open files until there are no more, and sockets that carry sockets",
        defence: "limits of open files and of files in flight",
        remains: "",
        how: How::Each(shared::descriptors),
    },
];

/// Half of the requests to the API about an attacker are answered faster than this.
fn api_answers(field: &Field<'_>, path: &str, most: Duration) -> Result<Duration, Fault> {
    let mut taken = Vec::new();
    for _ in 0..15 {
        let began = Instant::now();
        let status = field.api("GET", path)?.status;
        hold!(status < 300, "{path} answers {status}");
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    let median = taken[taken.len() / 2];
    hold!(median <= most, "{path} takes {median:?}, and {:?} at most", taken[taken.len() - 1]);
    Ok(median)
}

/// The median of a few commands of the neighbour.
fn neighbour_median(field: &Field<'_>) -> Result<Duration, Fault> {
    let mut taken = Vec::new();
    for _ in 0..7 {
        taken.push(field.neighbour_answers(Duration::from_secs(10))?);
    }
    taken.sort_unstable();
    Ok(taken[taken.len() / 2])
}
