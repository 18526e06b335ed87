//! Copying between this machine and a sandbox.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::fs;

use super::archive;
use crate::{
    args::sandbox::{Cp, Place},
    client::{Remote, Server, remote::Kind},
    failure::{Failure, Result},
    output::Output,
    progress::Step,
};

pub(super) async fn run(server: &Server, output: &Output, args: Cp) -> Result<()> {
    let user = args.user.as_deref();
    match (args.from, args.to) {
        (Place::Here(from), Place::There(id, to)) => {
            let remote = server.remote(&id).await?;
            let written = into_sandbox(&remote, output, &from, &to, user).await?;
            report(output, &from.display().to_string(), &format!("{id}:{written}"))
        }
        (Place::There(id, from), Place::Here(to)) => {
            let remote = server.remote(&id).await?;
            let written = out_of_sandbox(&remote, output, &from, &to, user).await?;
            report(output, &format!("{id}:{from}"), &written.display().to_string())
        }
        (Place::Here(_), Place::Here(_)) => Err(Failure::Usage {
            message: "neither side is in a sandbox".into(),
            hint: Some("write the one that is as <sandbox id>:<path>".into()),
        }),
        (Place::There(..), Place::There(..)) => Err(Failure::Usage {
            message: "both sides are in a sandbox".into(),
            hint: Some("copy to this machine first".into()),
        }),
    }
}

fn report(output: &Output, from: &str, to: &str) -> Result<()> {
    if output.json { output.value(&serde_json::json!({ "from": from, "to": to })) } else { Ok(()) }
}

async fn into_sandbox(
    remote: &Remote,
    output: &Output,
    from: &Path,
    to: &str,
    user: Option<&str>,
) -> Result<String> {
    let shown = from.display().to_string();
    let about = fs::metadata(from).await.map_err(Failure::io(&shown))?;
    let name = from.canonicalize().map_err(Failure::io(&shown))?;
    let name = name
        .file_name()
        .ok_or_else(|| Failure::usage(format!("{shown}: a copy of it would have no name")))?
        .to_str()
        .ok_or_else(|| Failure::usage(format!("{shown}: the name is not UTF-8")))?
        .to_owned();
    let target = match remote.kind(to, user).await {
        Ok(Kind::Directory) => join(to, &name),
        Ok(_) if about.is_dir() => {
            return Err(Failure::usage(format!("{to} is a file in the sandbox")));
        }
        Ok(_) => to.to_owned(),
        Err(failure) if failure.code() == "SB-NOT-FOUND" && to.ends_with('/') => join(to, &name),
        Err(failure) if failure.code() == "SB-NOT-FOUND" => to.to_owned(),
        Err(failure) => return Err(failure),
    };
    if about.is_dir() {
        let step = Arc::new(Step::bytes(output, None, format!("copying {shown}")));
        remote.make_dir(&target, user).await?;
        archive::send(remote, from.to_owned(), &target, user, step).await?.tell(output);
    } else {
        let step = Arc::new(Step::bytes(output, Some(about.len()), format!("copying {shown}")));
        let file = fs::File::open(from).await.map_err(Failure::io(&shown))?;
        remote.upload(&target, user, file, step).await?;
    }
    Ok(target)
}

async fn out_of_sandbox(
    remote: &Remote,
    output: &Output,
    from: &str,
    to: &Path,
    user: Option<&str>,
) -> Result<PathBuf> {
    let kind = remote.kind(from, user).await?;
    let is_dir = fs::metadata(to).await.is_ok_and(|about| about.is_dir());
    let wants_dir = to.as_os_str().as_encoded_bytes().ends_with(b"/");
    let target = if is_dir || wants_dir { to.join(base_name(from)) } else { to.to_owned() };
    let step = Step::bytes(output, None, format!("copying {}", crate::output::plain(from)));
    if kind == Kind::Directory {
        if fs::metadata(&target).await.is_ok_and(|about| !about.is_dir()) {
            return Err(Failure::usage(format!("{} is a file", target.display())));
        }
        archive::receive(remote, from, target.clone(), user, Arc::new(step)).await?;
    } else {
        if let Some(parent) = target.parent().filter(|_| wants_dir) {
            fs::create_dir_all(parent).await.map_err(Failure::io(parent.display().to_string()))?;
        }
        download(remote, from, &target, user, &step).await?;
    }
    Ok(target)
}

/// A regular file appears whole or not at all; what else may stand there is written to.
async fn download(
    remote: &Remote,
    from: &str,
    target: &Path,
    user: Option<&str>,
    step: &Step,
) -> Result<()> {
    let context = || Failure::io(target.display().to_string());
    let special = fs::metadata(target).await.is_ok_and(|about| !about.is_file());
    if special {
        let mut file = fs::OpenOptions::new().write(true).open(target).await.map_err(context())?;
        return remote.download(from, user, &mut file, step).await;
    }
    let mut staged = target.as_os_str().to_owned();
    staged.push(format!(".part-{}", std::process::id()));
    let staged = PathBuf::from(staged);
    let mut file = fs::File::create_new(&staged).await.map_err(context())?;
    let done = match remote.download(from, user, &mut file, step).await {
        Ok(()) => fs::rename(&staged, target).await.map_err(context()),
        Err(failure) => Err(failure),
    };
    if done.is_err() {
        let _ = fs::remove_file(&staged).await;
    }
    done
}

fn join(dir: &str, name: &str) -> String {
    format!("{}/{name}", dir.trim_end_matches('/'))
}

/// The last name of a path in a sandbox, which may say anything: never a way out of a directory.
fn base_name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | ".." | "~") => "root",
        Some(name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_directory() {
        assert_eq!(base_name("/home/user/out/"), "out");
        assert_eq!(base_name("a"), "a");
        for odd in ["/", "..", "/tmp/..", ".", "~", ""] {
            assert_eq!(base_name(odd), "root", "{odd}");
        }
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("x/", "a"), "x/a");
    }
}
