//! Compiles the `.proto` files with a pure-Rust compiler: no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf, time::UNIX_EPOCH};

const FILES: [&str; 2] = ["process/process.proto", "filesystem/filesystem.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let descriptors = out.join("descriptors.bin");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    fs::write(&descriptors, compiler.encode_file_descriptor_set())?;
    connectrpc_build::Config::new()
        .descriptor_set(&descriptors)
        .files(&FILES)
        .include_file("_connectrpc.rs")
        .gate_client_feature(true)
        .compile()?;
    // That asks cargo to watch the file, which is newer than the start of this program: everything would be built
    // again each time.
    fs::File::options().write(true).open(&descriptors)?.set_modified(UNIX_EPOCH)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
