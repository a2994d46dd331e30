//! A disk that fails on command (dm-flakey), over a disk of a guest.
//!
//! The guest needs the module `dm-flakey` and the program `dmsetup`.

use crate::error::Result;
use crate::guest::Guest;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// What the disk does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Its work.
    Well,
    /// Every request ends with an I/O error.
    Error,
    /// Writes end with an I/O error, reads do not.
    ErrorWrites,
    /// Writes are said to be done and are not, flushes too.
    DropWrites,
}

impl Behaviour {
    /// Seconds up, seconds down, and what down means (dm-flakey.rst).
    fn features(self) -> &'static str {
        match self {
            Self::Well => "1 0",
            Self::Error => "0 1",
            Self::ErrorWrites => "0 1 1 error_writes",
            Self::DropWrites => "0 1 1 drop_writes",
        }
    }
}

/// The disk.
#[derive(Debug, Clone)]
pub struct Flakey {
    name: String,
    below: String,
    sectors: u64,
}

impl Flakey {
    /// Lays it over a device, of the same size; it works well at first.
    pub fn set_up(guest: &Guest, name: &str, below: &str) -> Result<Self> {
        let size = guest.run(&format!("blockdev --getsz {below}"), LIMIT)?;
        let flakey = Self {
            name: name.to_owned(),
            below: below.to_owned(),
            sectors: size.parse().map_err(|_| crate::GuestError::BadOutput {
                program: "blockdev",
                problem: size,
            })?,
        };
        let table = flakey.table(Behaviour::Well);
        guest.run(
            &format!("export DM_DISABLE_UDEV=1; dmsetup create {name} --table '{table}'"),
            LIMIT,
        )?;
        Ok(flakey)
    }

    /// The device.
    pub fn device(&self) -> String {
        format!("/dev/mapper/{}", self.name)
    }

    /// Changes what it does, between two requests: those under way end first.
    pub fn behave(&self, guest: &Guest, behaviour: Behaviour) -> Result<()> {
        let (name, table) = (&self.name, self.table(behaviour));
        let script = format!(
            "set -e\nexport DM_DISABLE_UDEV=1\ndmsetup suspend --nolockfs --noflush {name}\n\
             dmsetup load {name} --table '{table}' || {{ dmsetup resume {name}; exit 1; }}\ndmsetup resume {name}"
        );
        guest.run(&script, LIMIT).map(|_| ())
    }

    /// Takes it away; nothing may have it open.
    pub fn remove(self, guest: &Guest) -> Result<()> {
        guest
            .run(
                &format!(
                    "export DM_DISABLE_UDEV=1; dmsetup remove --retry {}",
                    self.name
                ),
                LIMIT,
            )
            .map(|_| ())
    }

    fn table(&self, behaviour: Behaviour) -> String {
        format!(
            "0 {} flakey {} 0 {}",
            self.sectors,
            self.below,
            behaviour.features()
        )
    }
}
