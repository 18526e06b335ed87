//! The secret that tokens of this server are derived from.

use std::{
    fmt,
    fs::File,
    io::{Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use hmac::{Hmac, KeyInit, Mac};
use rand::RngExt;
use sha2::Sha256;

use crate::{Error, Result};

const SECRET_BYTES: usize = 32;

/// 32 random bytes in a file of mode 0600, made once.
///
/// Whoever replaces the file gives every living sandbox another access token than its agent has.
pub struct ServerSecret([u8; SECRET_BYTES]);

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(..)")
    }
}

impl ServerSecret {
    /// HMAC-SHA-256 of `message`, in 64 hexadecimal digits. `purpose` keeps the uses of the secret
    /// apart: equal messages give different tokens for different purposes.
    pub fn derive(&self, purpose: &str, message: &[u8]) -> String {
        // Any length of key is good for an HMAC, so this cannot fail; an empty token is never right.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(message);
        hex::encode(mac.finalize().into_bytes())
    }

    /// Reads the secret, makes it first where there is none; the file stays locked while the second
    /// value lives.
    pub(crate) fn load_or_create(path: &Path) -> Result<(Self, File)> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Error::io("open", path))?;
        file.lock().map_err(Error::io("lock", path))?;
        let meta = file.metadata().map_err(Error::io("read", path))?;
        let unusable = |detail: String| Error::Secret { path: path.to_owned(), detail };
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o777;
            return Err(unusable(format!("others may read it (mode {mode:o}): chmod 600 it")));
        }
        let mut text = String::new();
        (&mut file).take(1024).read_to_string(&mut text).map_err(Error::io("read", path))?;
        if text.is_empty() {
            let mut bytes = [0u8; SECRET_BYTES];
            rand::rng().fill(&mut bytes);
            // One write of 65 bytes: a crash leaves all or nothing of it.
            file.write_all(format!("{}\n", hex::encode(bytes)).as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(Error::io("write", path))?;
            return Ok((Self(bytes), file));
        }
        let mut bytes = [0u8; SECRET_BYTES];
        hex::decode_to_slice(text.trim_end(), &mut bytes)
            .map_err(|_| unusable("it should hold 64 hexadecimal digits".into()))?;
        Ok((Self(bytes), file))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        let (first, lock) = ServerSecret::load_or_create(&path).unwrap();
        drop(lock);
        let (again, _lock) = ServerSecret::load_or_create(&path).unwrap();
        assert_eq!(first.derive("a", b"m"), again.derive("a", b"m"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let other = ServerSecret::load_or_create(&dir.path().join("other.key")).unwrap().0;
        assert_ne!(first.derive("a", b"m"), other.derive("a", b"m"));
    }

    #[test]
    fn purposes_and_messages_give_different_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, _lock) = ServerSecret::load_or_create(&dir.path().join("s")).unwrap();
        let tokens = [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "bc")]
            .map(|(purpose, message)| secret.derive(purpose, message.as_bytes()));
        for (i, token) in tokens.iter().enumerate() {
            assert_eq!(token.len(), 64);
            assert!(!tokens[..i].contains(token));
        }
    }

    #[test]
    fn a_damaged_or_open_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        drop(ServerSecret::load_or_create(&path).unwrap());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = ServerSecret::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, "abc").unwrap();
        let error = ServerSecret::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal"), "{error}");
    }
}
