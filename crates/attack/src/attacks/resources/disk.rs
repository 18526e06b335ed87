//! Disk space, files, and the time of the disk.

use std::time::Duration;

use super::{api_answers, neighbour_median};
use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::Field,
    host,
    sandbox::{Launch, Sandbox},
};

const MIB: u64 = 1 << 20;

fn limit(field: &Field<'_>, sandbox: &Sandbox) -> Result<u64, Fault> {
    let mib = field.about(sandbox)?["diskSizeMB"].as_u64();
    mib.map(|mib| mib * MIB).ok_or_else(|| Fault::failed("the API tells no size of the disk"))
}

pub(super) fn beyond_the_limit(field: &Field<'_>) -> Outcome {
    let (full, neighbour) = (field.fresh()?, field.neighbour()?);
    let limit = limit(field, &full)?;
    let before = host::stored(&field.ground.data_dir);
    let line = format!("head -c {} /dev/zero > /home/user/fill", limit + 512 * MIB);
    let launch = Launch {
        limit: Duration::from_secs(120),
        ..Launch::new("/bin/sh", &["-c", &line], Who::User)
    };
    let output = full.run(&launch)?;
    let said = output.stderr.to_lowercase();
    let refused = said.contains("no space left") || said.contains("quota exceeded");
    hold!(refused, "the disk took all of it: {} {said}", output.code);
    let written: u64 = full.says("stat -c %s /home/user/fill", Who::User)?.parse().unwrap_or(0);
    hold!(written <= limit, "{written} bytes were written of {limit}");
    hold!(written >= limit / 5 * 4, "only {written} bytes could be written of {limit}");
    let stored = host::stored(&field.ground.data_dir).saturating_sub(before);
    hold!(stored <= limit + limit / 4, "{stored} bytes went on the host");
    let more = full.write("/home/user/more", &vec![b'x'; 8 << 20], Who::User)?;
    hold!(more.status == 507, "an upload is answered {} {}", more.status, more.text());
    let line =
        "head -c 67108864 /dev/zero > /home/user/ok; stat -c %s /home/user/ok; rm /home/user/ok";
    let wrote = neighbour.says(line, Who::User)?;
    hold!(wrote == "67108864", "the neighbour could write {wrote} bytes");
    Ok(format!("ENOSPC after {} MiB of {}", written / MIB, limit / MIB))
}

pub(super) fn inodes(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let limit = limit(field, &sandbox)?;
    let store = field.ground.data_dir.join("store");
    let free = || rustix::fs::statvfs(&field.ground.data_dir).map_or(0, |stat| stat.f_ffree);
    let (before, free_before) = (host::stored(&field.ground.data_dir), free());
    let program = include_str!("../../../programs/inodes.py");
    let found = sandbox.finds(program, &["/home/user/many", "6"], Who::User)?;
    let made = found["made"].as_u64().unwrap_or(0);
    hold!(made > 1000, "only {made} files: {}", found["error"]);
    let stored = host::stored(&field.ground.data_dir).saturating_sub(before);
    hold!(stored <= limit + limit / 4, "{made} empty files took {stored} bytes of the host");
    if store.exists() && field.ground.data_dir.join("store.img").exists() {
        let went = free_before.saturating_sub(free());
        hold!(went < 10_000, "{went} of the host's inodes went");
    }
    hold!(sandbox.is_well(), "the sandbox does not answer any more");
    field.neighbour_answers(Duration::from_secs(5))?;
    let end = found["error"].as_str().unwrap_or("time ran out");
    Ok(format!("{made} files, then {end}; {} MiB of the host", stored / MIB))
}

pub(super) fn storm(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let quiet = neighbour_median(field)?;
    let program = include_str!("../../../programs/disk_storm.py");
    let storming = sandbox.launch(program, &["5"], Who::User, Duration::from_secs(20))?;
    sandbox.await_file("/tmp/storming", Duration::from_secs(10))?;
    field.rest(Duration::from_millis(500))?;
    let beside = neighbour_median(field)?;
    let api = api_answers(field, "/sandboxes", Duration::from_millis(500))?;
    storming.leave();
    // Two of them and the neighbour share the processors too; a slow disk would take seconds.
    let most = (quiet * 10).max(Duration::from_millis(500));
    hold!(beside < most, "the neighbour's commands take {beside:?}, {quiet:?} before");
    Ok(format!(
        "neighbour {} ms (before: {} ms), API {} ms",
        beside.as_millis(),
        quiet.as_millis(),
        api.as_millis()
    ))
}
