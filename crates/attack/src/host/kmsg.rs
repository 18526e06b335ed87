//! What the kernel logs from now on.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

/// The kernel's log, from the moment of opening on; silent where it may not be read.
#[derive(Debug)]
pub(crate) struct KernelLog(Option<File>);

impl KernelLog {
    pub(crate) fn from_now() -> Self {
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg");
        let at_end = opened.and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Self(at_end.ok())
    }

    /// The lines since the last call.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(file) = &mut self.0 else { return lines };
        // One record per read, of at most this size.
        let mut record = vec![0; 8 << 10];
        loop {
            match file.read(&mut record) {
                Ok(0) => return lines,
                Ok(read) => {
                    let text = String::from_utf8_lossy(&record[..read]);
                    let message = text.split_once(';').map_or(&*text, |(_, message)| message);
                    lines.push(message.trim_end().to_owned());
                }
                // Records that were overwritten meanwhile.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => return lines,
            }
        }
    }
}
