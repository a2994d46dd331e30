//! Two guests with a data disk each and a wire between them: the ground for mirrors.

use crate::error::Result;
use crate::guest::{Disk, File, Guest, Spec};
use crate::place::{Nic, Place, Wire};
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// What both guests have, beside fio and DRBD's programs.
#[derive(Debug, Clone)]
pub struct PairSpec {
    /// Begins their names: `NAME1`, `NAME2`.
    pub name: String,
    /// Size of each data disk (`/dev/vda`), in bytes.
    pub disk_bytes: u64,
    /// Memory of each, in MiB. fio and its libraries take 90 of it.
    pub memory_mib: u32,
    /// Modules, beside drbd, nbd and dm-flakey.
    pub modules: Vec<String>,
    /// Programs.
    pub programs: Vec<PathBuf>,
    /// Other files.
    pub files: Vec<File>,
}

impl Default for PairSpec {
    fn default() -> Self {
        Self {
            name: "mirror".to_owned(),
            disk_bytes: 256 << 20,
            memory_mib: 512,
            modules: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// The two guests; they reach each other at [`Pair::ADDRESSES`].
#[derive(Debug)]
pub struct Pair {
    /// Both.
    pub guests: [Guest; 2],
    wire: Wire,
    nics: [Nic; 2],
}

impl Pair {
    /// The guests' addresses on the wire.
    pub const ADDRESSES: [&str; 2] = ["10.79.0.1", "10.79.0.2"];

    /// The data disk in each guest.
    pub const DISK: &str = "/dev/vda";

    /// Boots both, one after the other.
    pub fn boot(spec: &PairSpec) -> Result<Self> {
        let wire = Wire::create(&["data"])?;
        let boot = |number: u8, address: &str| -> Result<(Guest, Nic)> {
            let (tap, mac) = (
                format!("tap{number}"),
                format!("02:79:00:00:00:{number:02x}"),
            );
            let nic = wire.plug("data", &tap, &mac)?;
            let guest = Guest::boot(spec.guest(number, nic.clone(), &wire))?;
            let up = format!("ip link set eth0 up && ip address add {address}/24 dev eth0");
            guest.run(&up, LIMIT)?;
            Ok((guest, nic))
        };
        let (first, first_nic) = boot(1, Self::ADDRESSES[0])?;
        let (second, second_nic) = boot(2, Self::ADDRESSES[1])?;
        Ok(Self {
            guests: [first, second],
            wire,
            nics: [first_nic, second_nic],
        })
    }

    /// Pulls or plugs the cable of one guest.
    pub fn set_link(&self, index: usize, up: bool) -> Result<()> {
        self.wire.set_link(&self.nics[index % 2], up)
    }
}

impl PairSpec {
    fn guest(&self, number: u8, nic: Nic, wire: &Wire) -> Spec {
        let mut modules = ["drbd", "nbd", "dm-flakey"].map(str::to_owned).to_vec();
        modules.extend_from_slice(&self.modules);
        let mut programs = ["fio", "drbdsetup-84", "drbdmeta", "dmsetup"]
            .map(PathBuf::from)
            .to_vec();
        programs.extend_from_slice(&self.programs);
        Spec {
            name: format!("{}{number}", self.name),
            memory_mib: self.memory_mib,
            disks: vec![Disk::Scratch(self.disk_bytes)],
            nics: vec![nic],
            modules,
            programs,
            files: self.files.clone(),
            place: Place::Wire(wire.clone()),
            ..Spec::default()
        }
    }
}
