//! Which files a kernel module needs, in the order in which they must be loaded.
//!
//! Modules name what they need in two ways, both listed by depmod(8): by the symbols they use
//! (`modules.dep`), and by a name that others answer to (`modules.softdep`, `modules.alias`), of
//! which some may not fit the processor.

use crate::error::{GuestError, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module's file and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Relative to the directory of modules.
    pub file: PathBuf,
    /// `name=value …`, empty for what another module needs.
    pub parameters: String,
    /// The guest is of no use without it.
    pub required: bool,
}

/// Deeper than this modules do not need each other.
const MAX_DEPTH: usize = 16;

/// What depmod(8) found out.
#[derive(Debug, Default)]
pub struct Modules {
    /// `FILE: NEEDED NEEDED …`, the nearest first; by name.
    files: BTreeMap<String, (PathBuf, Vec<PathBuf>)>,
    /// `softdep MODULE pre: NAME …`.
    before: BTreeMap<String, Vec<String>>,
    /// `alias NAME MODULE`, without those that match devices.
    aliases: BTreeMap<String, Vec<String>>,
}

impl Modules {
    /// Reads depmod's files in a directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(GuestError::file("read", path))
        };
        Ok(Self::parse(
            &read("modules.dep")?,
            &read("modules.softdep")?,
            &read("modules.alias")?,
        ))
    }

    fn parse(dep: &str, softdep: &str, alias: &str) -> Self {
        let mut this = Self::default();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(PathBuf::from).collect();
            this.files.insert(name(file), (PathBuf::from(file), needs));
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if let (Some("softdep"), Some(module), Some("pre:")) =
                (words.next(), words.next(), words.next())
            {
                let before = words.take_while(|word| *word != "post:").map(name);
                this.before.entry(name(module)).or_default().extend(before);
            }
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(alias), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                this.aliases
                    .entry(name(alias))
                    .or_default()
                    .push(name(module));
            }
        }
        this
    }

    /// What to load for `wanted`, each `NAME PARAMETER=VALUE …`, nothing twice.
    pub fn order(&self, wanted: &[String]) -> Result<Vec<Load>> {
        let mut order: Vec<Load> = Vec::new();
        for text in wanted {
            let (module, parameters) = text.split_once(' ').unwrap_or((text, ""));
            if !self.files.contains_key(&name(module)) {
                return Err(GuestError::NoModule(module.to_owned()));
            }
            self.add(&name(module), parameters.trim(), true, 0, &mut order);
        }
        Ok(order)
    }

    fn add(
        &self,
        module: &str,
        parameters: &str,
        required: bool,
        depth: usize,
        order: &mut Vec<Load>,
    ) {
        let Some((file, needs)) = self.files.get(module).filter(|_| depth < MAX_DEPTH) else {
            return;
        };
        if order.iter().any(|load| load.file == *file) {
            return;
        }
        for answering in self.before.get(module).into_iter().flatten() {
            self.add(answering, "", false, depth + 1, order);
            for other in self.aliases.get(answering).into_iter().flatten() {
                self.add(other, "", false, depth + 1, order);
            }
        }
        for needed in needs.iter().rev() {
            self.add(
                &name(&needed.to_string_lossy()),
                "",
                required,
                depth + 1,
                order,
            );
        }
        order.push(Load {
            file: file.clone(),
            parameters: parameters.to_owned(),
            required,
        });
    }
}

/// `dm-flakey`, `dm_flakey` and `kernel/drivers/md/dm-flakey.ko.xz` are one module.
fn name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    let stem = base.split_once(".ko").map_or(base, |(stem, _)| stem);
    stem.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "a/dm-flakey.ko: a/dm-mod.ko\na/dm-mod.ko:\nb/drbd.ko: l/lru_cache.ko l/libcrc32c.ko\nl/lru_cache.ko:\nl/libcrc32c.ko.xz:\nc/crc32c_generic.ko:\n";
    const SOFTDEP: &str = "softdep libcrc32c pre: crc32c post: nothing\n";
    const ALIAS: &str = "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\n";

    fn files(wanted: &[&str]) -> Vec<String> {
        let wanted: Vec<_> = wanted.iter().map(|&w| w.to_owned()).collect();
        let order = Modules::parse(DEP, SOFTDEP, ALIAS)
            .order(&wanted)
            .expect("known modules");
        order
            .iter()
            .map(|l| format!("{} {}", l.file.display(), l.parameters))
            .collect()
    }

    #[test]
    fn what_a_module_needs_comes_first_and_once() {
        assert_eq!(
            files(&["dm_flakey", "dm-mod", "drbd minor_count=8"]),
            [
                "a/dm-mod.ko ",
                "a/dm-flakey.ko ",
                "c/crc32c_generic.ko ",
                "l/libcrc32c.ko.xz ",
                "l/lru_cache.ko ",
                "b/drbd.ko minor_count=8"
            ]
        );
    }

    #[test]
    fn what_only_answers_to_a_name_may_be_missing() {
        let wanted = ["drbd".to_owned()];
        let order = Modules::parse(DEP, SOFTDEP, ALIAS)
            .order(&wanted)
            .expect("known modules");
        let optional: Vec<_> = order
            .iter()
            .filter(|l| !l.required)
            .map(|l| l.file.display().to_string())
            .collect();
        assert_eq!(optional, ["c/crc32c_generic.ko"]);
    }

    #[test]
    fn modules_that_need_each_other_come_to_an_end() {
        let modules = Modules::parse("a.ko: b.ko\nb.ko: a.ko\n", "softdep a pre: b\n", "");
        assert!(
            modules
                .order(&["a".to_owned()])
                .expect("known modules")
                .len()
                < 64
        );
    }

    #[test]
    fn an_unknown_module_is_named() {
        let error = Modules::parse(DEP, "", "")
            .order(&["nbd".to_owned()])
            .expect_err("no nbd");
        assert!(error.to_string().contains("\"nbd\""));
    }
}
