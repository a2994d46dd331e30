//! Two nodes' voices on one file, as two hosts have them.

use super::*;
use hotpair_core::document::Document;
use hotpair_core::ids::{Incarnation, Term, Version};
use hotpair_wire::disk;
use std::path::Path;
use std::sync::Arc;

const DISK: MemberId = MemberId(200);
const CLUSTER: u64 = 7;
const NUMBER: u64 = 0xd15c;

fn labelled(directory: &Path) -> PathBuf {
    let path = directory.join("disk");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(disk::SIZE as u64).unwrap();
    label(&path, NUMBER);
    path
}

fn label(path: &Path, number: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let label = disk::Label {
        cluster: hotpair_wire::ClusterId(CLUSTER),
        disk: number,
    };
    for write in disk::label(label) {
        file.write_all_at(&write.bytes, write.offset).unwrap();
    }
}

fn place(path: &Path, me: u8) -> Place {
    Place {
        me: MemberId(me),
        boot: HostBoot(1 << 32),
        cluster: CLUSTER,
        setup: QuorumSetup {
            member: DISK,
            path: path.to_owned(),
            number: NUMBER,
        },
        lock: path.with_file_name(format!("lock{me}")),
    }
}

fn voice(path: &Path, me: u8) -> Quorum {
    Quorum::start(place(path, me), now()).unwrap()
}

fn now() -> Now {
    crate::guard::process::now()
}

fn beat(me: u8, seq: u64, shown: Version) -> Beat {
    Beat {
        from: MemberId(me),
        boot: HostBoot(1 << 32),
        run: Incarnation(1),
        seq,
        idle: false,
        deciding: true,
        shown,
        held: shown,
        committed: shown,
        lease: Duration::from_secs(30),
        term: Term(1),
        leads: false,
    }
}

fn document(version: Version) -> Arc<Document> {
    use hotpair_core::config::{Cluster, Flapping, Timing, WithoutWitness};
    let mut document = Document::first(Cluster {
        name: "disk".into(),
        id: hotpair_core::ids::ClusterId(CLUSTER),
        timing: Timing::standard(),
        nodes: std::collections::BTreeMap::new(),
        witness: None,
        without_witness: WithoutWitness::Wait,
        links: Vec::new(),
        fencing: Default::default(),
        groups: std::collections::BTreeMap::new(),
        flapping: Flapping::default(),
    });
    document.version = version;
    Arc::new(document)
}

/// Waits for what `voice` says until `wanted` picks something out of it; asked again after a while, as the
/// guard does.
fn until<T>(
    voice: &mut Quorum,
    mut ask: impl FnMut(&mut Quorum) -> Vec<Said>,
    wanted: impl Fn(&Said) -> Option<T>,
) -> T {
    for _ in 0..60 {
        let mut said = ask(voice);
        for _ in 0..50 {
            said.extend(voice.hear(now));
            if let Some(found) = said.iter().find_map(&wanted) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    panic!("the disk does not say it: {:?}", voice.sight());
}

fn acked(voice: &mut Quorum, me: u8, shown: Version) -> Ack {
    let mut seq = 0;
    until(
        voice,
        |voice| {
            seq += 1;
            voice.beat(now(), beat(me, seq, shown))
        },
        |said| match said {
            Said::Ack(ack) => Some(ack.clone()),
            Said::Message(_) => None,
        },
    )
}

fn accepted(voice: &mut Quorum, term: u64, document: &Arc<Document>) -> Version {
    let offer = Message::Offer {
        term: Term(term),
        document: Arc::clone(document),
        committed: Version::ZERO,
    };
    until(
        voice,
        |voice| voice.message(now(), offer.clone()),
        |said| match said {
            Said::Message(Message::Accepted { version, .. }) => Some(*version),
            _ => None,
        },
    )
}

/// Until the disk has a problem that says `words`.
fn fails(voice: &mut Quorum, me: u8, words: &str) {
    let mut problem = None;
    for seq in 1000..1200 {
        voice.beat(now(), beat(me, seq, Version::ZERO));
        std::thread::sleep(Duration::from_millis(25));
        let said = voice.hear(now);
        problem = voice.sight().problem;
        if problem.as_ref().is_some_and(|text| text.contains(words)) {
            return;
        }
        drop(said);
    }
    panic!("it has no problem with `{words}`, but: {problem:?}");
}

#[test]
fn what_one_node_gave_the_disk_the_other_is_told_and_held_to() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = labelled(directory.path());
    let (mut one, mut two) = (voice(&path, 1), voice(&path, 2));
    let (old, new) = (Version::new(1, 1), Version::new(2, 2));
    assert!(acked(&mut one, 1, Version::ZERO).granted);
    assert_eq!(accepted(&mut one, 1, &document(old)), old);
    assert_eq!(accepted(&mut one, 2, &document(new)), new);
    let ack = acked(&mut one, 1, new);
    assert!(ack.granted);
    assert_eq!(ack.held, new);
    // Node 2 shows an older one.
    assert!(!acked(&mut two, 2, old).granted);
    let handed = until(
        &mut two,
        |two| two.beat(now(), beat(2, 100, old)),
        |said| match said {
            Said::Message(Message::Hand { document }) => Some(document.version),
            _ => None,
        },
    );
    assert_eq!(handed, new);
    // What it shows now is enough, and it waits for node 1, whose lease runs.
    let ack = acked(&mut two, 2, new);
    assert!(ack.granted);
    assert!(ack.sees.iter().any(|seen| seen.member == MemberId(1)));

    // The next run of the guard goes on from its slot.
    drop(one);
    let mut one = voice(&path, 1);
    let ack = acked(&mut one, 1, new);
    assert_eq!(ack.held, new);
    assert!(two.sight().problem.is_none(), "{:?}", two.sight());
    assert!(two.sight().round_us.is_some());
}

#[test]
fn block_device_is_a_disk_and_one_that_is_read_only_is_none() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let disk = crate::loop_disk::Disk::new(&directory.path().join("image"), 16);
    let path = PathBuf::from(&disk.device);
    label(&path, NUMBER);
    let mut place = place(&path, 1);
    place.lock = directory.path().join("lock");
    let mut one = Quorum::start(place.clone(), now()).unwrap();
    assert!(acked(&mut one, 1, Version::ZERO).granted);
    drop(one);
    crate::loop_disk::sh(&format!("blockdev --setro {}", disk.device));
    let mut one = Quorum::start(place, now()).unwrap();
    fails(&mut one, 1, "can only be read here");
}

#[test]
fn disk_of_others_or_cut_short_answers_nothing_and_is_taken_up_again() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = labelled(directory.path());
    let mut one = voice(&path, 1);
    assert!(acked(&mut one, 1, Version::ZERO).granted);
    let whole = std::fs::read(&path).unwrap();
    label(&path, NUMBER + 1);
    fails(&mut one, 1, "not the one expected");
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    fails(&mut one, 1, "are needed");
    std::fs::remove_file(&path).unwrap();
    fails(&mut one, 1, "there is no");
    std::fs::write(&path, whole).unwrap();
    assert!(acked(&mut one, 1, Version::ZERO).granted);
}

#[test]
fn nothing_is_written_while_an_earlier_guards_work_has_not_ended() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = labelled(directory.path());
    let lock = std::fs::File::create(place(&path, 1).lock).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut one = voice(&path, 1);
    fails(&mut one, 1, "earlier guard");
    assert!(std::fs::read(&path).unwrap() == before);
    drop(lock);
    assert!(acked(&mut one, 1, Version::ZERO).granted);
}
