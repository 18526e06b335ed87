//! `/etc/passwd` and `/etc/group`, which belong to whoever is root inside.

use soulbox_agent::users::Users;

/// What comes first up to a NUL is the one file, the rest the other.
pub fn parse(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (passwd, group) = (&data[..cut], &data[cut..]);
    let users = Users::parse(passwd, group);
    let groups = group.split(|byte| *byte == b'\n').count();
    for line in passwd.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let name = line.trim().split(':').next().unwrap_or_default();
        let Some(user) = users.user(name) else { continue };
        assert_eq!(user.name, name);
        assert!(!name.is_empty() && user.home.starts_with('/') && !user.shell.is_empty());
        assert!(![&user.name, &user.home, &user.shell].iter().any(|field| field.contains(':')));
        assert!(users.user_name(user.uid).is_some());
        let gids = users.groups_of(user);
        assert_eq!(gids.first(), Some(&user.gid), "the primary group comes first");
        assert!(gids.len() <= groups + 1);
        let mut once = gids.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), gids.len(), "a group twice");
    }
}
