//! What clients attach to files: extended attributes `user.e2b.<key>`.

use std::{collections::BTreeMap, ffi::CStr, fs::File, path::Path};

use rustix::{
    fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr},
    io::Errno,
};

const PREFIX: &str = "user.e2b.";
/// The kernel's own limits on a list of names and on a value, in bytes.
const MAX_LIST: usize = 64 * 1024;
/// Large enough for every value that a client can set; longer ones were put there by other means.
const MAX_VALUE: usize = 64 * 1024;

/// Reads the metadata of what `path` leads to; what cannot be read is left out.
pub fn read(path: &Path) -> BTreeMap<String, String> {
    let names = with_growing(MAX_LIST, |buffer| listxattr(path, buffer));
    collect(names, |name| with_growing(MAX_VALUE, |buffer| getxattr(path, name, buffer)))
}

/// Reads the metadata of an open file.
pub fn read_file(file: &File) -> BTreeMap<String, String> {
    let names = with_growing(MAX_LIST, |buffer| flistxattr(file, buffer));
    collect(names, |name| with_growing(MAX_VALUE, |buffer| fgetxattr(file, name, buffer)))
}

/// Makes `wanted` the whole metadata of an open file.
///
/// Touches nothing when there is nothing to change, because each change is an event for watchers.
/// A file system without attributes drops the metadata silently, as clients expect.
pub fn replace(file: &File, wanted: &BTreeMap<String, String>) -> Result<(), Errno> {
    for key in read_file(file).keys().filter(|key| !wanted.contains_key(*key)) {
        ignore_unsupported(fremovexattr(file, format!("{PREFIX}{key}")))?;
    }
    for (key, value) in wanted {
        let name = format!("{PREFIX}{key}");
        ignore_unsupported(fsetxattr(file, name, value.as_bytes(), XattrFlags::empty()))?;
    }
    Ok(())
}

fn ignore_unsupported(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(()),
        result => result,
    }
}

fn collect(
    names: Option<Vec<u8>>,
    value_of: impl Fn(&CStr) -> Option<Vec<u8>>,
) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    for name in names.as_deref().unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let Some((name, key)) = CStr::from_bytes_with_nul(name)
            .ok()
            .and_then(|name| Some((name, name.to_str().ok()?.strip_prefix(PREFIX)?)))
        else {
            continue;
        };
        if let Some(value) = value_of(name).and_then(|value| String::from_utf8(value).ok()) {
            metadata.insert(key.to_owned(), value);
        }
    }
    metadata
}

/// Calls with a small buffer, and again with the largest one if that was too small.
fn with_growing(
    max: usize,
    read: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 256];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; max];
            read(&mut buffer).ok()?
        }
        result => result.ok()?,
    };
    buffer.truncate(length);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_new_set_replaces_the_old_one() {
        let file = tempfile::tempfile().unwrap();
        let long = "x".repeat(1000);
        let first = map(&[("a", "1"), ("b", &long), ("c", "")]);
        replace(&file, &first).unwrap();
        assert_eq!(read_file(&file), first);
        let second = map(&[("b", "2")]);
        replace(&file, &second).unwrap();
        assert_eq!(read_file(&file), second);
        replace(&file, &BTreeMap::new()).unwrap();
        assert!(read_file(&file).is_empty());
    }

    #[test]
    fn foreign_attributes_are_neither_shown_nor_touched() {
        let file = tempfile::tempfile().unwrap();
        fsetxattr(&file, "user.other", b"kept", XattrFlags::empty()).unwrap();
        fsetxattr(&file, "user.e2b.binary", b"\xff\xfe", XattrFlags::empty()).unwrap();
        assert!(read_file(&file).is_empty());
        replace(&file, &map(&[("k", "v")])).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(fgetxattr(&file, "user.other", &mut buffer).unwrap(), 4);
    }
}
