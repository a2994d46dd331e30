//! Databases on a mirror under power cuts: no acknowledged commit is lost, nothing is corrupted.

use hotpair_lab::{Profile, Program, require_root};
use hotpair_ledger::{Cut, Database, Options, Scene};
use std::time::Duration;

/// The database of a template with clients outside at work; nothing without root, or where the
/// server is not installed.
fn scene(name: &str, database: Option<Database>) -> Option<(Scene, tempfile::TempDir)> {
    let Some(database) = database.filter(|_| require_root().is_ok()) else {
        eprintln!("skipped: needs root and the database (scripts/setup tests installs it)");
        return None;
    };
    let kept = tempfile::tempdir().expect("a directory");
    let options = Options {
        name: format!("e2e-{name}"),
        profile: Profile::Standard,
        database,
        connections: 4,
        load: 0,
        size_mib: 384,
        ledger: kept.path().join(format!("hotpair-e2e-{name}.ledger")),
    };
    let program = Program(env!("CARGO_BIN_EXE_hotpair").into());
    let scene = Scene::up(&program, options);
    Some((scene.unwrap_or_else(|e| panic!("{e}")), kept))
}

#[test]
fn postgresql_on_a_mirror_loses_no_acknowledged_commit_when_the_plug_is_pulled() {
    let Some((mut scene, _kept)) = scene("postgres", Database::postgresql()) else {
        return;
    };
    let cuts = [
        Cut::Active,
        Cut::BothStandbyFirst,
        Cut::Active,
        Cut::Resync,
        Cut::BothActiveFirst,
    ];
    for (cut, phase) in cuts.into_iter().zip([400, 700, 1000, 550, 900]) {
        let outcome = scene.round(cut, Duration::from_millis(phase), false);
        outcome.unwrap_or_else(|e| panic!("{cut:?}: {e}"));
    }
    scene.check().unwrap_or_else(|e| panic!("{e}"));
    scene.verify().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn mariadb_on_a_mirror_loses_no_acknowledged_commit_when_the_plug_is_pulled() {
    let Some((mut scene, _kept)) = scene("mariadb", Database::mariadb()) else {
        return;
    };
    let outcome = scene.round(Cut::Active, Duration::from_millis(700), true);
    outcome.unwrap_or_else(|e| panic!("{e}"));
    scene.verify().unwrap_or_else(|e| panic!("{e}"));
}
