//! The keys that secrets are sealed with, and the sealing.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use soulbox_model::SecretValue;
use zeroize::Zeroizing;

use crate::{Error, Result, file::write_private};

const KEY_BYTES: usize = 32;
const ID_BYTES: usize = 8;
/// More keys than any number of broken-off rotations leaves.
const MAX_FILE: u64 = 64 * 1024;

/// A file of mode 0600 with the keys of this server's secrets, the one in use first.
///
/// Other processes may change the file, under the write lock of the database; who seals reads it
/// again first, under the same lock.
pub(crate) struct Vault {
    path: PathBuf,
    ring: RwLock<Arc<Ring>>,
}

/// Never empty; the first seals.
struct Ring(Vec<Key>);

struct Key {
    id: String,
    /// As the file has it.
    digits: Zeroizing<String>,
    key: LessSafeKey,
}

/// What the database holds of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub key_id: String,
    /// Nonce, ciphertext and tag in hexadecimal digits.
    pub text: String,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Vault {
    /// Reads the keys, makes the first where there is none.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        let ring = match read(path)? {
            Some(ring) => ring,
            None => {
                let ring = Ring(vec![Key::random(path)?]);
                ring.write(path)?;
                ring
            }
        };
        Ok(Self { path: path.to_owned(), ring: RwLock::new(Arc::new(ring)) })
    }

    /// Seals with the key in use, as of the last [`Vault::reload`]. `context` must be the same when
    /// it is opened: a value sealed for one thing opens as no other.
    pub fn seal(&self, value: &SecretValue, context: &[u8]) -> Result<Sealed> {
        self.seal_text(value.expose(), context)
    }

    /// [`Vault::seal`] of any text.
    pub fn seal_text(&self, text: &str, context: &[u8]) -> Result<Sealed> {
        let ring = Arc::clone(&self.ring.read());
        let key = ring.0.first().ok_or_else(|| self.unusable("it holds no key"))?;
        let mut nonce = [0; NONCE_LEN];
        random(&self.path, &mut nonce)?;
        let mut bytes = nonce.to_vec();
        let mut sealed = Zeroizing::new(text.as_bytes().to_vec());
        let tag = key
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut sealed,
            )
            .map_err(|_| self.unusable("a value could not be sealed"))?;
        bytes.extend_from_slice(&sealed);
        bytes.extend_from_slice(tag.as_ref());
        Ok(Sealed { key_id: key.id.clone(), text: hex::encode(bytes) })
    }

    /// # Errors
    /// [`Error::Corrupt`] if it was not sealed with this context, or was changed since;
    /// [`Error::Secret`] if its key is not here.
    pub fn open(&self, sealed: &Sealed, context: &[u8]) -> Result<SecretValue> {
        let mut text = self.open_text(sealed, context)?;
        SecretValue::new(std::mem::take(&mut *text)).map_err(|_| broken())
    }

    /// [`Vault::open`] of any text.
    pub fn open_text(&self, sealed: &Sealed, context: &[u8]) -> Result<Zeroizing<String>> {
        let ring = Arc::clone(&self.ring.read());
        let key = ring.0.iter().find(|key| key.id == sealed.key_id).ok_or_else(|| {
            let id = &sealed.key_id;
            self.unusable(&format!("it lacks key {id}, which a secret is sealed with: restore it"))
        })?;
        let mut bytes = Zeroizing::new(hex::decode(&sealed.text).map_err(|_| broken())?);
        if bytes.len() < NONCE_LEN {
            return Err(broken());
        }
        let (nonce, inside) = bytes.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let plain =
            key.key.open_in_place(nonce, Aad::from(context), inside).map_err(|_| broken())?;
        let text = std::str::from_utf8(plain).map_err(|_| broken())?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    pub fn knows(&self, key_id: &str) -> bool {
        self.ring.read().0.iter().any(|key| key.id == key_id)
    }

    /// Reads the file again.
    pub fn reload(&self) -> Result<()> {
        let ring = read(&self.path)?.ok_or_else(|| self.unusable("it is gone: restore it"))?;
        *self.ring.write() = Arc::new(ring);
        Ok(())
    }

    /// Puts a fresh key before the others; it seals from now on. On disk when this returns.
    pub fn add_key(&self) -> Result<String> {
        let old = read(&self.path)?.ok_or_else(|| self.unusable("it is gone: restore it"))?;
        let fresh = Key::random(&self.path)?;
        let id = fresh.id.clone();
        let ring = Ring(std::iter::once(fresh).chain(old.0).collect());
        ring.write(&self.path)?;
        *self.ring.write() = Arc::new(ring);
        Ok(id)
    }

    /// Forgets the keys that are neither in use nor `needed`.
    pub fn retire(&self, needed: &[String]) -> Result<()> {
        let old = read(&self.path)?.ok_or_else(|| self.unusable("it is gone: restore it"))?;
        let kept = old.0.into_iter().enumerate();
        let kept = kept.filter(|(at, key)| *at == 0 || needed.contains(&key.id));
        let ring = Ring(kept.map(|(_, key)| key).collect());
        ring.write(&self.path)?;
        *self.ring.write() = Arc::new(ring);
        Ok(())
    }

    fn unusable(&self, detail: &str) -> Error {
        Error::Secret { path: self.path.clone(), detail: detail.to_owned() }
    }
}

impl Ring {
    fn write(&self, path: &Path) -> Result<()> {
        let mut text = Zeroizing::new(String::new());
        for key in &self.0 {
            text.push_str(&key.id);
            text.push(' ');
            text.push_str(&key.digits);
            text.push('\n');
        }
        write_private(path, text.trim_end())
    }
}

impl Key {
    fn random(path: &Path) -> Result<Self> {
        let mut id = [0; ID_BYTES];
        random(path, &mut id)?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random(path, bytes.as_mut())?;
        let digits = Zeroizing::new(hex::encode(*bytes));
        Self::parse(&hex::encode(id), &digits).ok_or_else(|| Error::Secret {
            path: path.to_owned(),
            detail: "no key could be made".into(),
        })
    }

    fn parse(id: &str, digits: &str) -> Option<Self> {
        let id_fits = id.len() == 2 * ID_BYTES && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(digits, bytes.as_mut()).ok().filter(|()| id_fits)?;
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, bytes.as_ref()).ok()?);
        Some(Self { id: id.to_owned(), digits: Zeroizing::new(digits.to_owned()), key })
    }
}

fn broken() -> Error {
    Error::Corrupt { what: "secret", detail: "its seal is broken".into() }
}

fn random(path: &Path, bytes: &mut [u8]) -> Result<()> {
    let no_luck = |_| Error::io("find randomness for", path)(io::ErrorKind::Other.into());
    SystemRandom::new().fill(bytes).map_err(no_luck)
}

/// `None` if there is no file.
fn read(path: &Path) -> Result<Option<Ring>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let unusable = |detail: String| Error::Secret { path: path.to_owned(), detail };
    let mode = file.metadata().map_err(Error::io("read", path))?.mode();
    if mode & 0o077 != 0 {
        let mode = mode & 0o777;
        return Err(unusable(format!("others may read it (mode {mode:o}): chmod 600 it")));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE).read_to_string(&mut text).map_err(Error::io("read", path))?;
    let keys: Option<Vec<Key>> = text
        .lines()
        .map(|line| line.split_once(' ').and_then(|(id, digits)| Key::parse(id, digits)))
        .collect();
    match keys {
        Some(keys) if !keys.is_empty() => Ok(Some(Ring(keys))),
        _ => Err(unusable("each line should hold a key's id and 64 hexadecimal digits".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.into()).unwrap()
    }

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::load_or_create(&dir.path().join("vault.key")).unwrap();
        (dir, vault)
    }

    #[test]
    fn what_is_sealed_opens_in_its_context_alone() {
        let (_dir, vault) = vault();
        let sealed = vault.seal(&value("hunter2"), b"team a").unwrap();
        assert_eq!(vault.open(&sealed, b"team a").unwrap().expose(), "hunter2");
        assert!(matches!(vault.open(&sealed, b"team b"), Err(Error::Corrupt { .. })));
        assert!(!sealed.text.contains(&hex::encode("hunter2")));
        assert_ne!(vault.seal(&value("hunter2"), b"team a").unwrap(), sealed);
    }

    #[test]
    fn any_change_of_what_is_stored_is_noticed() {
        let (_dir, vault) = vault();
        let sealed = vault.seal(&value("hunter2"), b"").unwrap();
        for at in 0..sealed.text.len() {
            let mut digits = sealed.text.clone().into_bytes();
            digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
            let text = String::from_utf8(digits).unwrap();
            if text != sealed.text {
                assert!(vault.open(&Sealed { text, ..sealed.clone() }, b"").is_err(), "{at}");
            }
        }
        for text in ["", "00", "zz", &sealed.text[..10], &sealed.text[..sealed.text.len() - 2]] {
            assert!(vault.open(&Sealed { text: text.into(), ..sealed.clone() }, b"").is_err());
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_opens_until_it_is_retired() {
        let (dir, vault) = vault();
        let old = vault.seal(&value("a"), b"").unwrap();
        let id = vault.add_key().unwrap();
        let new = vault.seal(&value("b"), b"").unwrap();
        assert_eq!(new.key_id, id);
        let again = Vault::load_or_create(&dir.path().join("vault.key")).unwrap();
        assert_eq!(again.open(&old, b"").unwrap().expose(), "a");
        vault.retire(std::slice::from_ref(&old.key_id)).unwrap();
        assert!(vault.open(&old, b"").is_ok());
        vault.retire(&[]).unwrap();
        let error = vault.open(&old, b"").unwrap_err().to_string();
        assert!(error.contains(&old.key_id) && error.contains("restore"), "{error}");
        assert_eq!(vault.open(&new, b"").unwrap().expose(), "b");
        again.reload().unwrap();
        assert!(!again.knows(&old.key_id) && again.knows(&id));
    }

    #[test]
    fn the_file_is_private_and_a_damaged_one_is_refused() {
        let (dir, vault) = vault();
        let path = dir.path().join("vault.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let shown = format!("{vault:?}");
        let digits = std::fs::read_to_string(&path).unwrap();
        assert!(!shown.contains(digits.split_once(' ').unwrap().1.trim()), "{shown}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Vault::load_or_create(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        for bad in ["", "\n", "x", "0011223344556677 00", &digits.replace(' ', "")] {
            std::fs::write(&path, bad).unwrap();
            let error = Vault::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal"), "{bad}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(vault.reload().unwrap_err().to_string().contains("restore"));
    }
}
