//! Builds a template into a directory: `build_template <dir> <base|host>`.
#![allow(clippy::print_stdout)]

use std::{env, error::Error, path::PathBuf};

use soulbox_image::Templates;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(dir), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: build_template <dir> <base|host>".into());
    };
    let templates = Templates::open(PathBuf::from(dir))?;
    let built = templates.build(&name.to_string_lossy(), |progress| println!("{progress}")).await?;
    println!("{}: {} MiB in {:?}", built.name, built.size_bytes >> 20, built.layers);
    Ok(())
}
