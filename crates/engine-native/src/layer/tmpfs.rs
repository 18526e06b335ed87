//! Layers in memory: for kernels without btrfs. What a sandbox writes counts as its memory.
//!
//! Their files carry the ids of their sandbox: tmpfs can be idmapped since Linux 6.3 only, and no
//! other sandbox ever sees them.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use parking_lot::Mutex;
use rustix::mount::MountAttrFlags;
use soulbox_model::SandboxId;
use soulbox_sys::mount::{self, Opt};

use super::{Ids, Layer, Layers, copy, furnish};

#[derive(Debug, Default)]
pub(crate) struct Tmpfs {
    /// A directory of each layer, to ask for its usage. After a restart there is none for older
    /// sandboxes: their overlay alone holds the memory.
    open: Mutex<HashMap<SandboxId, OwnedFd>>,
}

impl Layers for Tmpfs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn create(&self, id: &SandboxId, bytes: u64) -> io::Result<Layer> {
        let size = bytes.to_string();
        let options = [Opt::Value("size", &size), Opt::Value("mode", "0700")];
        let mount = mount::new(c"tmpfs", &options, MountAttrFlags::empty())?;
        furnish(mount.as_fd())?;
        self.open.lock().insert(id.clone(), mount.try_clone()?);
        // Another file system than that of templates, which overlayfs tells apart.
        Ok(Layer { mount, ids: Ids::Own, above: u64::MAX })
    }

    fn usage(&self, id: &SandboxId) -> io::Result<u64> {
        let open = self.open.lock();
        let Some(fd) = open.get(id) else { return Ok(0) };
        let stat = rustix::fs::fstatvfs(fd)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    fn freeze(&self, id: &SandboxId, first_id: u32, into: &Path) -> io::Result<u64> {
        let layer = self.open.lock().get(id).map(OwnedFd::try_clone).transpose()?;
        let layer = layer.ok_or(io::ErrorKind::NotFound)?;
        copy::layer(layer.as_fd(), first_id, into)
    }

    fn delete(&self, id: &SandboxId) -> io::Result<()> {
        self.open.lock().remove(id);
        Ok(())
    }

    fn ids(&self) -> io::Result<Vec<SandboxId>> {
        Ok(self.open.lock().keys().cloned().collect())
    }
}
