//! Disks in memory: what is read while writes are torn, under way, or of others.

use super::*;
use proptest::prelude::*;

const LABEL: Label = Label {
    cluster: ClusterId(0x1122_3344_5566_7788),
    disk: 42,
};

/// Sectors of the smallest disks: what a torn write leaves is old or new by these.
const SECTOR: usize = 512;

fn disk() -> Vec<u8> {
    let mut disk = vec![0; SIZE];
    for write in label(LABEL) {
        put(&mut disk, &write, write.bytes.len());
    }
    disk
}

/// The first `len` bytes of `write` reach the disk.
fn put(disk: &mut [u8], write: &Write, len: usize) {
    let offset = usize::try_from(write.offset).unwrap();
    disk[offset..offset + len].copy_from_slice(&write.bytes[..len]);
}

/// Number, content and body of a member's slot, as somebody else reads it.
fn slot(disk: &[u8], member: u8) -> Option<(u64, Vec<u8>, Vec<u8>)> {
    let table = read_table(disk, LABEL).unwrap();
    let head = table.heads.into_iter().find(|head| head.member == member)?;
    let body = match body_at(&head) {
        None => Vec::new(),
        Some((offset, len)) => {
            let offset = usize::try_from(offset).unwrap();
            read_body(&head, &disk[offset..offset + len])?.to_vec()
        }
    };
    Some((head.number, head.content, body))
}

/// One write of a slot after the other, as a node makes them.
struct Node {
    writer: SlotWriter,
    number: u64,
}

impl Node {
    fn of(disk: &[u8], member: u8) -> Self {
        let table = read_table(disk, LABEL).unwrap();
        let head = table.heads.iter().find(|head| head.member == member);
        Self {
            writer: SlotWriter::new(LABEL, member, head).unwrap(),
            number: head.map_or(0, |head| head.number),
        }
    }

    fn plan(&mut self, content: &[u8], body: Option<&[u8]>) -> Planned {
        self.number += 1;
        self.writer.plan(self.number, content, body).unwrap()
    }

    fn write(&mut self, disk: &mut [u8], content: &[u8], body: Option<&[u8]>) {
        let planned = self.plan(content, body);
        for step in &planned.steps {
            put(disk, step, step.bytes.len());
        }
        self.writer.done(&planned);
    }
}

#[test]
fn fits_a_disk_of_ten_megabytes() {
    const { assert!(SIZE < 10_000_000) };
}

#[test]
fn lays_out_a_head_as_documented() {
    let mut disk = disk();
    Node::of(&disk, 3).write(&mut disk, b"content", Some(b"body"));
    let head = &disk[6 * BLOCK..7 * BLOCK];
    assert_eq!(&head[..8], b"hpquorum");
    assert_eq!(head[8..12], [1, 0, KIND_HEAD, 3]);
    assert_eq!(head[12..16], [7, 0, 0, 0]);
    assert_eq!(head[16..24], LABEL.cluster.0.to_le_bytes());
    assert_eq!(head[24..32], 42_u64.to_le_bytes());
    assert_eq!(head[32..40], 1_u64.to_le_bytes());
    assert_eq!(head[40..44], 4_u32.to_le_bytes());
    assert_eq!(head[44..48], crc32fast::hash(b"body").to_le_bytes());
    assert_eq!(&head[56..63], b"content");
    assert_eq!(
        head[BLOCK - 4..],
        crc32fast::hash(&head[..BLOCK - 4]).to_le_bytes()
    );
    assert_eq!(&disk[TABLE + 4 * MAX_BODY..][..4], b"body");
}

#[test]
fn slots_of_all_members_are_read_back() {
    let mut disk = disk();
    for member in 1..=SLOTS {
        Node::of(&disk, member).write(&mut disk, &[member], Some(&[member; 5000]));
    }
    for member in 1..=SLOTS {
        let expected = (1, vec![member], vec![member; 5000]);
        assert_eq!(slot(&disk, member), Some(expected));
    }
}

#[test]
fn body_stays_while_only_the_content_changes() {
    let mut disk = disk();
    let mut node = Node::of(&disk, 1);
    node.write(&mut disk, b"a", Some(b"document"));
    node.write(&mut disk, b"b", None);
    let expected = (2, b"b".to_vec(), b"document".to_vec());
    assert_eq!(slot(&disk, 1), Some(expected));
}

/// Every cut of every step, in sectors; then the node goes on from what it finds.
#[test]
fn torn_write_leaves_the_slot_as_it_was() {
    for torn_at in 0..40 {
        let mut disk = disk();
        let mut node = Node::of(&disk, 2);
        for round in 0..4_u8 {
            node.write(&mut disk, &[round; 3000], Some(&[round; 9000]));
        }
        let before = slot(&disk, 2);
        let planned = node.plan(&[9; 3000], Some(&[9; 9000]));
        let mut left = torn_at * SECTOR;
        let mut whole = true;
        for step in &planned.steps {
            let len = step.bytes.len().min(left);
            put(&mut disk, step, len);
            whole &= len == step.bytes.len();
            left -= len;
        }
        let new = Some((5, vec![9; 3000], vec![9; 9000]));
        assert_eq!(slot(&disk, 2), if whole { new } else { before });
        let mut again = Node::of(&disk, 2);
        again.write(&mut disk, b"after", Some(b"reboot"));
        let (_, content, body) = slot(&disk, 2).unwrap();
        assert_eq!((content, body), (b"after".to_vec(), b"reboot".to_vec()));
    }
}

/// A write that failed is made again in the same place, so the newest sound copy is never at stake.
#[test]
fn write_after_a_failed_one_spares_the_newest_sound_copy() {
    let mut disk = disk();
    let mut node = Node::of(&disk, 1);
    node.write(&mut disk, b"a", Some(b"one"));
    let failed = node.plan(b"b", Some(b"two"));
    let next = node.plan(b"c", Some(b"three"));
    let places =
        |planned: &Planned| -> Vec<u64> { planned.steps.iter().map(|step| step.offset).collect() };
    assert_eq!(places(&failed), places(&next));
    assert_eq!(slot(&disk, 1).map(|slot| slot.0), Some(1));
}

/// The reader's blocks and the writer's sectors come in any order; the reader never gets less than was
/// durable when it began.
#[test]
fn reader_of_a_slot_under_way_never_gets_an_older_one() {
    for first in 0..20_usize {
        for second in 0..20_usize {
            let mut disk = disk();
            let mut node = Node::of(&disk, 1);
            for round in 0..3 {
                node.write(&mut disk, &[round; 3500], None);
            }
            let least = 3;
            let mut reader = Reader::new(LABEL);
            let mut writes = Vec::new();
            for round in 3..6 {
                let planned = node.plan(&[round; 3500], None);
                node.writer.done(&planned);
                writes.extend(planned.steps);
            }
            // In sectors: the writer is at `first` when copy 0 is read, at `second` when copy 1 is.
            let at = |sectors: usize, disk: &mut [u8]| {
                let mut left = sectors * SECTOR;
                for write in &writes {
                    let len = write.bytes.len().min(left);
                    put(disk, write, len);
                    left -= len;
                }
            };
            let mut read = disk.clone();
            at(first, &mut disk);
            read[2 * BLOCK..3 * BLOCK].copy_from_slice(&disk[2 * BLOCK..3 * BLOCK]);
            at(first + second, &mut disk);
            read[3 * BLOCK..4 * BLOCK].copy_from_slice(&disk[3 * BLOCK..4 * BLOCK]);
            read.truncate(TABLE);
            let mut table = reader.take(read).unwrap();
            for _ in 0..2 {
                table = table.or_else(|| reader.take(disk[..TABLE].to_vec()).unwrap());
            }
            let number = table.expect("two equal reads").heads[0].number;
            assert!(number >= least, "{first} {second}: {number}");
        }
    }
}

#[test]
fn block_of_another_disk_or_cluster_is_told() {
    let disk = disk();
    let other = Label { disk: 43, ..LABEL };
    let Label {
        cluster,
        disk: number,
    } = LABEL;
    let told = read_table(&disk, other);
    assert_eq!(
        told,
        Err(DiskError::OfAnother {
            cluster,
            disk: number
        })
    );

    let mut shared = disk.clone();
    let writer = SlotWriter::new(other, 5, None).unwrap();
    for step in writer.plan(1, b"", None).unwrap().steps {
        put(&mut shared, &step, step.bytes.len());
    }
    let told = read_table(&shared, LABEL);
    assert_eq!(told, Err(DiskError::Shared { cluster, disk: 43 }));
}

#[test]
fn foreign_short_and_newer_disks_are_told_apart() {
    assert_eq!(read_label(&vec![0; 2 * BLOCK]), Err(DiskError::NoLabel));
    assert_eq!(read_label(&vec![7; 2 * BLOCK]), Err(DiskError::NoLabel));
    assert_eq!(read_label(&[0; 100]), Err(DiskError::Short));
    let mut newer = disk();
    for at in [0, BLOCK] {
        newer[at + 8] = 2;
        let sum = crc32fast::hash(&newer[at..at + BLOCK - 4]);
        newer[at + BLOCK - 4..at + BLOCK].copy_from_slice(&sum.to_le_bytes());
    }
    assert_eq!(read_label(&newer), Err(DiskError::Format(2)));
}

#[test]
fn one_damaged_label_is_enough_and_two_damaged_heads_are_too_much() {
    let mut disk = disk();
    disk[100] ^= 1;
    assert_eq!(read_label(&disk), Ok(LABEL));
    let mut node = Node::of(&disk, 1);
    node.write(&mut disk, b"a", None);
    node.write(&mut disk, b"b", None);
    disk[2 * BLOCK + 60] ^= 1;
    assert_eq!(slot(&disk, 1).map(|slot| slot.0), Some(2));
    disk[3 * BLOCK + 60] ^= 1;
    let mut reader = Reader::new(LABEL);
    let table = disk[..TABLE].to_vec();
    assert_eq!(reader.take(table.clone()), Ok(None));
    assert_eq!(reader.take(table), Err(DiskError::Damaged(1)));
}

#[test]
fn member_without_a_slot_and_too_much_content_are_refused() {
    let slot = |member| SlotWriter::new(LABEL, member, None).map(|_| ());
    assert_eq!(slot(0), Err(DiskError::NoSlot(0)));
    assert_eq!(slot(SLOTS), Ok(()));
    assert_eq!(slot(SLOTS + 1), Err(DiskError::NoSlot(SLOTS + 1)));
    let writer = SlotWriter::new(LABEL, 1, None).unwrap();
    let long = MAX_BODY + 1;
    assert_eq!(
        writer.plan(1, b"", Some(&vec![1; long])),
        Err(DiskError::TooLong { len: long })
    );
    assert!(writer.plan(1, &[1; MAX_HEAD], Some(&[1; MAX_BODY])).is_ok());
    assert!(writer.plan(1, &[1; MAX_HEAD + 1], None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_damage_to_a_table_gives_a_table_or_an_error(
        damage in proptest::collection::vec((0..TABLE, any::<u8>()), 0..40)
    ) {
        let mut disk = disk();
        for member in 1..=3 {
            let mut node = Node::of(&disk, member);
            node.write(&mut disk, &[member; 100], Some(&[member; 100]));
        }
        for (at, byte) in damage {
            disk[at] = byte;
        }
        let _ = read_table(&disk, LABEL);
    }
}
