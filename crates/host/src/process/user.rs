//! User accounts, with their groups, as the name service knows them.

use std::ffi::{CStr, CString};
use std::io;

/// Largest buffer offered to the name service for one account, in bytes.
const BUFFER_LIMIT: usize = 1 << 20;

/// Largest number of groups asked for (the kernel's NGROUPS_MAX).
const GROUPS_LIMIT: usize = 65_536;

/// An account a program can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// All groups, the primary one included.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// Why there is no such account.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody has that name or number.
    #[error("unknown user `{0}`; create it on this node, or correct `user`")]
    Unknown(String),
    /// The name service failed.
    #[error("cannot look up user `{name}`: {source}; check `getent passwd {name}`")]
    Lookup {
        /// Name or number asked for.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Account {
    /// Looks up a user by name, or by number when `name` is one.
    pub fn find(name: &str) -> Result<Self, UserError> {
        let unknown = || UserError::Unknown(name.to_owned());
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let uid = name.parse::<u32>().ok();
        let mut buffer = vec![0; 4096];
        loop {
            // SAFETY: an all-zero passwd is valid (numbers and null pointers).
            let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
            let mut found = std::ptr::null_mut();
            // SAFETY: every pointer is valid for the call, and the length is that of `buffer`.
            let code = unsafe {
                match uid {
                    Some(uid) => libc::getpwuid_r(
                        uid,
                        &mut entry,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        &mut found,
                    ),
                    None => libc::getpwnam_r(
                        c_name.as_ptr(),
                        &mut entry,
                        buffer.as_mut_ptr(),
                        buffer.len(),
                        &mut found,
                    ),
                }
            };
            match code {
                0 if !found.is_null() => {
                    return Self::from_entry(&entry).map_err(|source| lookup(name, source));
                }
                0 | libc::ENOENT | libc::ESRCH => return Err(unknown()),
                libc::ERANGE if buffer.len() < BUFFER_LIMIT => buffer.resize(buffer.len() * 4, 0),
                libc::EINTR => {}
                code => return Err(lookup(name, io::Error::from_raw_os_error(code))),
            }
        }
    }

    fn from_entry(entry: &libc::passwd) -> io::Result<Self> {
        Ok(Self {
            name: text(entry.pw_name),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            groups: groups(entry)?,
            home: text(entry.pw_dir),
            shell: text(entry.pw_shell),
        })
    }
}

fn lookup(name: &str, source: io::Error) -> UserError {
    UserError::Lookup {
        name: name.to_owned(),
        source,
    }
}

fn text(pointer: *const libc::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the name service ends its strings with NUL inside the caller's live buffer.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

fn groups(entry: &libc::passwd) -> io::Result<Vec<u32>> {
    let mut list: Vec<u32> = vec![0; 64];
    while list.len() <= GROUPS_LIMIT {
        let mut count = libc::c_int::try_from(list.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: `pw_name` is a NUL-ended string; `list` has room for `count` numbers.
        let done = unsafe {
            libc::getgrouplist(entry.pw_name, entry.pw_gid, list.as_mut_ptr(), &mut count)
        };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 {
            list.truncate(count);
            return Ok(list);
        }
        list.resize(count.max(list.len() * 2), 0);
    }
    Err(io::Error::other("member of too many groups"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_root_by_name_and_number() {
        let by_name = Account::find("root").unwrap();
        assert_eq!(by_name.uid, 0);
        assert!(by_name.groups.contains(&0));
        assert_eq!(Account::find("0").unwrap(), by_name);
    }

    #[test]
    fn names_the_unknown_user() {
        for name in ["no-such-user-here", "4000000000", "a\0b", ""] {
            let error = Account::find(name).unwrap_err();
            assert!(matches!(error, UserError::Unknown(_)), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
