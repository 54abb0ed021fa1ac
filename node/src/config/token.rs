//! The token that clients prove in their hello, read from a file so that it is in no
//! process list and no environment.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::values::ValueError;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// A shared secret. Printing it shows stars.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// Makes a token of 1 to 1024 bytes.
    ///
    /// # Errors
    /// Another length.
    pub fn new(bytes: Vec<u8>) -> Result<Token, ValueError> {
        if bytes.is_empty() || bytes.len() > TOKEN_BYTES_MAX {
            return Err(ValueError::TokenLength { bytes: bytes.len() });
        }
        Ok(Token(bytes))
    }

    /// The secret itself. Compare it in constant time.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(***)")
    }
}

/// Who besides its owner may read a token file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody.
    OwnerOnly,
    /// Its group or everybody, by its permission bits.
    Others {
        /// The file's mode, its lowest nine bits.
        mode: u32,
    },
}

/// Who may read the file at `path`; `None` where it cannot be asked.
pub(crate) fn readers(path: &Path) -> Option<Readers> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    Some(if mode & 0o044 == 0 { Readers::OwnerOnly } else { Readers::Others { mode } })
}

/// Reads a token file. One newline at its end does not count.
pub(crate) fn read(path: &Path) -> Result<Token, ValueError> {
    let unreadable = |error: std::io::Error| ValueError::Unreadable { reason: error.to_string() };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    // Asked before reading, so that a device or a large file is not read into memory.
    if !metadata.is_file() {
        return Err(ValueError::Unreadable { reason: "not a file".to_owned() });
    }
    if metadata.len() > TOKEN_BYTES_MAX as u64 + 2 {
        return Err(ValueError::TokenLength {
            bytes: usize::try_from(metadata.len()).unwrap_or(usize::MAX),
        });
    }
    let mut bytes = fs::read(path).map_err(unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Token::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(contents: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), contents).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn one_newline_is_trimmed() {
        let check = |contents: &[u8], expected: &[u8]| {
            let token = read(file(contents, 0o600).path()).unwrap();
            assert_eq!(token.as_bytes(), expected);
        };
        check(b"secret", b"secret");
        check(b"secret\n", b"secret");
        check(b"secret\r\n", b"secret");
        check(b"secret\n\n", b"secret\n");
        check(&[b'x'; 1024], &[b'x'; 1024]);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for contents in [&b""[..], b"\n", &[b'x'; 1025], &[b'x'; 5000]] {
            let error = read(file(contents, 0o600).path()).unwrap_err();
            assert!(matches!(error, ValueError::TokenLength { .. }), "{error}");
        }
        assert!(matches!(read(Path::new("/")), Err(ValueError::Unreadable { .. })));
    }

    #[test]
    fn a_file_that_others_may_read_is_noticed() {
        let readers = |mode| readers(file(b"secret", mode).path()).unwrap();
        assert_eq!(readers(0o600), Readers::OwnerOnly);
        assert_eq!(readers(0o400), Readers::OwnerOnly);
        assert_eq!(readers(0o644), Readers::Others { mode: 0o644 });
        assert_eq!(readers(0o640), Readers::Others { mode: 0o640 });
    }

    #[test]
    fn debug_does_not_print_it() {
        let token = Token::new(b"secret".to_vec()).unwrap();
        assert!(!format!("{token:?}").contains("secret"));
    }
}
