//! Page tables filled ahead of time.

use std::{fs, io, ops::Range};

/// Linux 5.14; see madvise(2).
const MADV_POPULATE_READ: libc::c_int = 22;

/// Maps all pages of the running program, so that code which runs for the first time does not fault
/// once for every few of them. Takes page tables but no other memory, since the pages are shared with
/// every process of the program. Without effect before Linux 5.14.
///
/// # Errors
/// If `/proc/self/maps` cannot be read.
pub fn map_program() -> io::Result<()> {
    for range in program(&fs::read_to_string("/proc/self/maps")?) {
        // SAFETY: maps pages for reading, as a load from each would, and changes no content; for a
        // range that is not mapped the kernel answers ENOMEM.
        unsafe {
            let (start, length) = (range.start as *mut libc::c_void, range.len());
            libc::madvise(start, length, MADV_POPULATE_READ);
        }
    }
    Ok(())
}

/// Where the file of the first mapping, which is the program's, is mapped and only read.
fn program(maps: &str) -> Vec<Range<usize>> {
    let mappings = maps.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let (range, access) = (address(start)?..address(end)?, fields.next()?);
        let (device, inode) = (fields.nth(1)?, fields.next()?);
        Some((range, access, (device, inode)))
    });
    let mut file = None;
    mappings
        .filter(|(_, _, mapped)| *file.get_or_insert(*mapped) == *mapped)
        .filter(|(_, access, _)| access.starts_with('r') && !access.contains('w'))
        .map(|(range, ..)| range)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_its_read_only_mappings() {
        let maps = "\
00400000-00401000 r--p 00000000 00:01 7   /memfd:x (deleted)
00401000-00500000 r-xp 00001000 00:01 7   /memfd:x (deleted)
00500000-00510000 rw-p 00100000 00:01 7   /memfd:x (deleted)
00600000-00610000 rw-p 00000000 00:00 0   [heap]
7f0000000000-7f0000001000 r-xp 00000000 00:02 9 /lib/other
";
        assert_eq!(program(maps), [0x400000..0x401000, 0x401000..0x500000]);
    }

    #[test]
    fn this_program_can_be_mapped() {
        map_program().unwrap();
    }
}
