//! Mount options as mount(8) understands them, for the kernel's two ways of mounting.

use rustix::mount::{MountAttrFlags, MountFlags};
use std::ffi::CString;

/// What to tell the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Of the mount.
    pub(super) attributes: MountAttrFlags,
    /// Of the filesystem: a key, and its value if it has one.
    pub(super) keys: Vec<(CString, Option<CString>)>,
    /// The same for mount(2).
    pub(super) flags: MountFlags,
    pub(super) data: CString,
    /// Mounted read-only.
    pub read_only: bool,
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionsError {
    #[error(
        "mount option `{0}` contains a comma or a zero character; write each as one of its own"
    )]
    Broken(String),
    #[error("mount option `{0}` would mount something else; remove it")]
    Foreign(String),
}

const A: fn(MountAttrFlags, MountFlags) -> Meaning = Meaning::Attribute;

enum Meaning {
    /// Of the mount, set or cleared.
    Attribute(MountAttrFlags, MountFlags),
    Clear(MountAttrFlags, MountFlags),
    /// Of every filesystem.
    Key(MountFlags),
    Nothing,
    Refused,
    /// The filesystem's own.
    Own,
}

fn meaning(option: &str) -> Meaning {
    use MountAttrFlags as Attr;
    use MountFlags as Flag;
    match option {
        "nosuid" => A(Attr::MOUNT_ATTR_NOSUID, Flag::NOSUID),
        "nodev" => A(Attr::MOUNT_ATTR_NODEV, Flag::NODEV),
        "noexec" => A(Attr::MOUNT_ATTR_NOEXEC, Flag::NOEXEC),
        "nodiratime" => A(Attr::MOUNT_ATTR_NODIRATIME, Flag::NODIRATIME),
        "noatime" => A(Attr::MOUNT_ATTR_NOATIME, Flag::NOATIME),
        "strictatime" => A(Attr::MOUNT_ATTR_STRICTATIME, Flag::STRICTATIME),
        "suid" => Meaning::Clear(Attr::MOUNT_ATTR_NOSUID, Flag::NOSUID),
        "dev" => Meaning::Clear(Attr::MOUNT_ATTR_NODEV, Flag::NODEV),
        "exec" => Meaning::Clear(Attr::MOUNT_ATTR_NOEXEC, Flag::NOEXEC),
        "diratime" => Meaning::Clear(Attr::MOUNT_ATTR_NODIRATIME, Flag::NODIRATIME),
        "atime" | "relatime" | "norelatime" | "nostrictatime" => Meaning::Clear(
            Attr::MOUNT_ATTR_NOATIME.union(Attr::MOUNT_ATTR_STRICTATIME),
            Flag::NOATIME.union(Flag::STRICTATIME),
        ),
        "sync" => Meaning::Key(Flag::SYNCHRONOUS),
        "dirsync" => Meaning::Key(Flag::DIRSYNC),
        "lazytime" => Meaning::Key(Flag::LAZYTIME),
        "ro" => Meaning::Key(Flag::RDONLY),
        "rw" | "async" | "nolazytime" | "defaults" | "auto" | "noauto" | "nofail" | "_netdev"
        | "user" | "nouser" | "users" | "owner" | "group" | "silent" | "loud" | "mand"
        | "nomand" => Meaning::Nothing,
        "bind" | "rbind" | "move" | "remount" | "loop" | "offset" | "sizelimit" | "shared"
        | "rshared" | "slave" | "rslave" | "private" | "rprivate" | "unbindable"
        | "runbindable" => Meaning::Refused,
        _ if option.starts_with("x-") || option.starts_with("X-") => Meaning::Nothing,
        _ => Meaning::Own,
    }
}

impl Options {
    /// Understands the options, the later ones over the earlier ones.
    ///
    /// # Errors
    /// One that is not a single option, or that does not mount a device.
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Result<Self, OptionsError> {
        let mut parsed = Self {
            attributes: MountAttrFlags::empty(),
            keys: Vec::new(),
            flags: MountFlags::empty(),
            data: CString::default(),
            read_only: false,
        };
        let mut data: Vec<String> = Vec::new();
        for option in options.iter().map(AsRef::as_ref) {
            let broken = || OptionsError::Broken(option.to_owned());
            if option.is_empty() || option.contains(',') {
                return Err(broken());
            }
            let (key, value) = match option.split_once('=') {
                Some((key, value)) => (key, Some(value.trim_matches('"'))),
                None => (option, None),
            };
            match meaning(key) {
                Meaning::Attribute(attribute, flag) => {
                    parsed.attributes |= attribute;
                    parsed.flags |= flag;
                }
                Meaning::Clear(attribute, flag) => {
                    parsed.attributes -= attribute;
                    parsed.flags -= flag;
                }
                Meaning::Key(flag) => {
                    parsed.flags |= flag;
                    parsed
                        .keys
                        .push((CString::new(key).map_err(|_| broken())?, None));
                }
                Meaning::Nothing => {}
                Meaning::Refused => return Err(OptionsError::Foreign(option.to_owned())),
                Meaning::Own => {
                    let text = |text: &str| CString::new(text).map_err(|_| broken());
                    parsed.keys.push((text(key)?, value.map(text).transpose()?));
                    data.push(match value {
                        Some(value) => format!("{key}={value}"),
                        None => key.to_owned(),
                    });
                }
            }
        }
        let broken = |_| OptionsError::Broken(data.join(","));
        parsed.data = CString::new(data.join(",")).map_err(broken)?;
        parsed.read_only = parsed.flags.contains(MountFlags::RDONLY);
        if parsed.read_only {
            parsed.attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_goes_where_the_kernel_takes_it() {
        let options = Options::parse(&[
            "noatime",
            "nodev",
            "dev",
            "sync",
            "data=ordered",
            "discard",
            "nofail",
        ])
        .unwrap();
        assert_eq!(options.attributes, MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert_eq!(options.flags, MountFlags::NOATIME | MountFlags::SYNCHRONOUS);
        let keys: Vec<_> = options
            .keys
            .iter()
            .map(|(key, value)| {
                (
                    key.to_str().unwrap(),
                    value.as_ref().map(|v| v.to_str().unwrap()),
                )
            })
            .collect();
        assert_eq!(
            keys,
            [("sync", None), ("data", Some("ordered")), ("discard", None)]
        );
        assert_eq!(options.data.to_str(), Ok("data=ordered,discard"));
        assert!(!options.read_only && Options::parse(&["ro"]).unwrap().read_only);
    }

    #[test]
    fn what_would_mount_something_else_is_refused() {
        for bad in ["bind", "remount", "loop=/dev/loop0", "a,b", "", "a\0b"] {
            assert!(Options::parse(&[bad]).is_err(), "{bad}");
        }
    }
}
