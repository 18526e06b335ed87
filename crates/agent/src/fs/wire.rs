//! Between the agent's own types and the messages of `filesystem.Filesystem`.

use buffa_types::google::protobuf::Timestamp;
use soulbox_wire::filesystem::{
    CreateWatcherRequest, EntryInfo, EventType, FileType, FilesystemEvent, WatchDirRequest,
};

use super::{
    entry::{Entry, Kind},
    watch::{Change, Event, Options},
};

/// Which fields a client can bear.
///
/// The first Python clients fail on fields that they do not know; they tell themselves apart by
/// the exact user agent `connect-python`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Full,
    Legacy,
}

impl Shape {
    pub fn wanted_by(headers: &http::HeaderMap) -> Self {
        match headers.get(http::header::USER_AGENT) {
            Some(agent) if agent == "connect-python" => Self::Legacy,
            _ => Self::Full,
        }
    }

    pub fn entry(self, entry: Entry) -> EntryInfo {
        let file_type = match entry.kind {
            Kind::File => FileType::FILE_TYPE_FILE,
            Kind::Directory => FileType::FILE_TYPE_DIRECTORY,
            Kind::Other => FileType::FILE_TYPE_UNSPECIFIED,
        };
        let brief = EntryInfo {
            name: entry.name,
            r#type: file_type.into(),
            path: entry.path,
            ..EntryInfo::default()
        };
        if self == Self::Legacy {
            return brief;
        }
        EntryInfo {
            size: entry.size,
            mode: entry.mode,
            permissions: entry.permissions,
            owner: entry.owner,
            group: entry.group,
            modified_time: timestamp(entry.modified).into(),
            is_symlink: entry.symlink_target.is_some(),
            symlink_target: entry.symlink_target,
            metadata: entry.metadata.into_iter().collect(),
            ..brief
        }
    }

    pub fn event(self, event: Event) -> FilesystemEvent {
        let event_type = match event.change {
            Change::Create => EventType::EVENT_TYPE_CREATE,
            Change::Rename => EventType::EVENT_TYPE_RENAME,
            Change::Chmod => EventType::EVENT_TYPE_CHMOD,
            Change::Write => EventType::EVENT_TYPE_WRITE,
            Change::Remove => EventType::EVENT_TYPE_REMOVE,
        };
        let entry = event.entry.filter(|_| self == Self::Full).map(|entry| self.entry(entry));
        FilesystemEvent {
            name: event.name,
            r#type: event_type.into(),
            entry: entry.into(),
            ..FilesystemEvent::default()
        }
    }
}

/// Absent for the epoch itself, which is what file systems without times report.
fn timestamp((seconds, nanos): (i64, u32)) -> Option<Timestamp> {
    // What the JSON form can say: the years 1 to 9999.
    const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
    let known = (seconds, nanos) != (0, 0) && RANGE.contains(&seconds);
    known.then(|| Timestamp::from_unix(seconds, nanos.cast_signed()))
}

impl From<&WatchDirRequest> for Options {
    fn from(request: &WatchDirRequest) -> Self {
        Self {
            recursive: request.recursive,
            include_entry: request.include_entry,
            allow_network_mounts: request.allow_network_mounts,
        }
    }
}

impl From<&CreateWatcherRequest> for Options {
    fn from(request: &CreateWatcherRequest) -> Self {
        Self {
            recursive: request.recursive,
            include_entry: request.include_entry,
            allow_network_mounts: request.allow_network_mounts,
        }
    }
}
