//! The Debian package: built from the program under test, installed, upgraded and purged by the real `dpkg` in a
//! directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a program, which must end well; what it printed.
fn run(program: &str, words: &[&str]) -> Output {
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not run: {error}"));
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    output
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pack(words: &[&str]) -> Output {
    let script = repository().join("scripts/package");
    Command::new(script)
        .args(words)
        // Packed quickly, whatever the size.
        .env("DPKG_DEB_COMPRESSOR_LEVEL", "0")
        .output()
        .expect("it is run")
}

/// A system that has nothing installed.
struct System(PathBuf);

impl System {
    fn new(dir: &Path) -> Self {
        let root = dir.join("system");
        for part in ["updates", "info"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(part)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        Self(root)
    }

    fn dpkg(&self, words: &[&str]) -> Output {
        let root = format!("--root={}", self.0.display());
        let forced = "--force-depends,script-chrootless,not-root";
        run("dpkg", &[&[root.as_str(), forced], words].concat())
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }
}

#[test]
fn package_is_installed_upgraded_and_purged_and_leaves_the_state_of_the_node() {
    let there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    if !["dpkg", "dpkg-deb", "objdump"].into_iter().all(there) {
        eprintln!("skipped: needs dpkg and objdump");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().display().to_string();
    let packed = pack(&["--binary", env!("CARGO_BIN_EXE_hotpair"), "--to", &to]);
    assert!(packed.status.success(), "{packed:?}");
    let package = printed(&packed);
    let again = dir.path().join("again").display().to_string();
    let again = pack(&["--binary", env!("CARGO_BIN_EXE_hotpair"), "--to", &again]);
    let [one, other] = [&package, &printed(&again)].map(|path| fs::read(path).unwrap());
    assert!(one == other, "two packages of the same program differ");
    // Without nft there is no gate.
    let needed = printed(&run("dpkg-deb", &["--field", &package, "Depends"]));
    assert!(needed.split(", ").any(|it| it == "nftables"), "{needed}");

    let system = System::new(dir.path());
    system.dpkg(&["--install", &package]);
    let program = system.0.join("usr/bin/hotpair").display().to_string();
    let version = printed(&run(&program, &["--version"]));
    for file in [
        "usr/lib/systemd/system/hotpair.service",
        "usr/lib/systemd/system/hotpair-witness.service",
        "usr/share/man/man1/hotpair-group-switch.1.gz",
        "usr/share/bash-completion/completions/hotpair",
        "usr/share/doc/hotpair/examples/hot-standby.toml",
        "usr/share/doc/hotpair/copyright",
    ] {
        assert!(system.has(file), "{file}");
    }

    // The next version over it, on a node that has its state.
    let open = dir.path().join("open").display().to_string();
    run("dpkg-deb", &["-R", &package, &open]);
    let control = dir.path().join("open/DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let here = text.lines().find(|line| line.starts_with("Version: "));
    let here = here.expect("it has a version").to_owned();
    assert!(version.ends_with(&here["Version: ".len()..]), "{version}");
    fs::write(&control, text.replace(&here, &format!("{here}+next"))).unwrap();
    let next = dir.path().join("next.deb").display().to_string();
    run("dpkg-deb", &["-Znone", "-b", &open, &next]);
    fs::create_dir_all(system.0.join("var/lib/hotpair")).unwrap();
    fs::write(system.0.join("var/lib/hotpair/state"), "kept").unwrap();
    system.dpkg(&["--install", &next]);
    let told = printed(&system.dpkg(&["--status", "hotpair"]));
    assert!(told.contains("+next"), "{told}");

    let purged = system.dpkg(&["--purge", "hotpair"]);
    let said = String::from_utf8_lossy(&purged.stderr).into_owned();
    assert!(said.contains("/var/lib/hotpair is left"), "{said}");
    assert!(
        !system.has("usr/bin/hotpair") && !system.has("usr/lib/systemd/system/hotpair.service")
    );
    assert!(system.has("var/lib/hotpair/state"));
}

#[test]
fn wrong_words_and_programs_are_refused_with_a_reason() {
    for (words, reason) in [
        (
            &["--binary", "/nonexistent"][..],
            "there is no program /nonexistent",
        ),
        (&["--binary"][..], "--binary needs a value"),
        (&["rpm"][..], "what is `rpm`?"),
        (&["--binary", "/bin/true"][..], "does not say its version"),
    ] {
        let said = pack(words);
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(
            !said.status.success() && text.contains(reason),
            "{words:?}: {text}"
        );
    }
}
