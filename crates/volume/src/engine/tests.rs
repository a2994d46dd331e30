//! Cases of the active side that seeds of the simulator seldom come to, each with the exact order of events
//! that it needs. The peer is a script.

mod desk;

use super::{Command, Effect, Event, IoError, MirrorMode, Session, Ticket};
use crate::link::Body;
use crate::store::BLOCK;
use desk::{Desk, MIB, PEER};
use hotpair_core::ids::HostBoot;
use std::time::Duration;

const LAG: MirrorMode = MirrorMode::Asynchronous {
    lag: Duration::from_secs(10),
    bytes: 64 * MIB,
};

#[test]
fn a_flush_of_the_peer_does_not_forget_what_only_a_later_one_covers() {
    let mut desk = Desk::in_sync(LAG);
    desk.write(0);
    assert!(desk.has_ended(0));
    desk.hold(|body| matches!(body, Body::Flush { .. }));
    desk.flush(100);
    desk.write(1);
    desk.hold_disk = |effect| matches!(effect, Effect::Flush { .. });
    desk.flush(101);
    let first = desk.held_at_peer().next().map(|message| message.tag);
    assert_eq!(desk.held_at_peer().count(), 2);
    desk.answer(first.unwrap_or_default(), Body::Ack { result: Ok(()) });
    // The peer loses its power, and with it block 1; that it has block 0 is not remembered block by block.
    desk.peer_returns(HostBoot(2));
    assert_eq!(desk.engine.status(desk.now).out_of_sync, 2 * BLOCK);
    assert!(desk.report().lacks.contains(&PEER));
}

#[test]
fn what_a_verification_repaired_is_lost_with_the_power_of_a_peer_that_did_not_flush_it() {
    let mut desk = Desk::in_sync(MirrorMode::Synchronous);
    desk.differ = 0b101;
    desk.tell(Event::Command(Command::Verify { repair: true }));
    assert!(desk.has_noted("verification has ended"));
    desk.peer_returns(HostBoot(2));
    let chunks = 4 * MIB / (64 * BLOCK);
    let repaired = 2 * BLOCK * chunks;
    assert_eq!(desk.engine.status(desk.now).out_of_sync, repaired);
    assert!(desk.report().lacks.contains(&PEER));
}

#[test]
fn asynchronous_mode_keeps_its_session_however_small_the_writes_that_lag_behind() {
    let mut desk = Desk::in_sync(LAG);
    desk.hold(|body| matches!(body, Body::Data { .. }));
    // As a kernel with a queue of 128 requests.
    let mut sent = 0;
    while sent < 20_000 && sent - desk.ended() < 128 {
        desk.write_sector(sent);
        sent += 1;
    }
    let early = desk.ended();
    assert!(!desk.has_dropped(), "after {early} writes");
    assert!(early >= 1000 && sent - early == 128, "{early}");
    // It is the number that stopped them: the bound in bytes is far away.
    assert!(desk.engine.status(desk.now).lag_bytes < 64 * MIB / 2);
    desk.answer_held(Body::Ack { result: Ok(()) });
    assert_eq!(desk.ended(), sent);
    assert!(!desk.has_dropped());
}

#[test]
fn what_lagged_behind_does_not_become_younger_by_the_loss_of_the_connection() {
    let mut desk = Desk::in_sync(LAG);
    desk.hold(|body| matches!(body, Body::Data { .. }));
    desk.write(8);
    assert!(desk.has_ended(8));
    desk.pass(Duration::from_secs(8));
    desk.tell(Event::PeerLost {
        session: Session(1),
    });
    desk.write(9);
    assert!(desk.has_ended(9), "within the lag that is allowed");
    desk.pass(Duration::from_secs(4));
    desk.write(10);
    assert_eq!(desk.result_of(10), None);
}

#[test]
fn a_write_that_is_held_fails_when_the_gate_closes_and_counts_as_missing_there() {
    let mut desk = Desk::in_sync(MirrorMode::Synchronous);
    desk.hold(|body| matches!(body, Body::Data { .. }));
    desk.write(3);
    desk.tell(Event::PeerLost {
        session: Session(1),
    });
    assert_eq!(desk.result_of(3), None);
    desk.tell(Event::GateClosed);
    assert_eq!(desk.result_of(3), Some(Err(IoError::Closed)));
    assert!(desk.has_ended_open());
    assert!(!desk.report().open && !desk.report().clean);
    assert_eq!(desk.engine.status(desk.now).out_of_sync, BLOCK);
    // Recorded afterwards all the same, it is not answered again, and nothing passes any more.
    desk.record_alone();
    assert_eq!(desk.answers(3), 1);
    desk.write(4);
    assert_eq!(desk.result_of(4), Some(Err(IoError::Closed)));
}

#[test]
fn a_local_half_that_ends_after_the_gate_has_closed_answers_nothing() {
    let mut desk = Desk::in_sync(MirrorMode::Synchronous);
    desk.hold_disk = |effect| matches!(effect, Effect::Write { .. });
    desk.write(5);
    desk.tell(Event::GateClosed);
    assert_eq!(desk.result_of(5), Some(Err(IoError::Closed)));
    desk.end_held();
    assert_eq!(desk.answers(5), 1);
    assert!(!desk.disk_has_failed());
}

#[test]
fn a_flush_that_is_held_fails_when_the_gate_closes() {
    let mut desk = Desk::in_sync(MirrorMode::Synchronous);
    desk.write(6);
    desk.hold(|body| matches!(body, Body::Flush { .. }));
    desk.flush(100);
    desk.tell(Event::PeerLost {
        session: Session(1),
    });
    assert_eq!(desk.result_of(100), None);
    desk.tell(Event::GateClosed);
    assert_eq!(desk.result_of(100), Some(Err(IoError::Closed)));
}

#[test]
fn a_copy_that_must_grow_before_it_is_opened_opens_and_grows_then() {
    let mut desk = Desk::made(MirrorMode::Synchronous);
    desk.grow_orders(8 * MIB);
    desk.tell(Event::Open {
        ticket: Ticket(1),
        epoch: desk.epoch(),
    });
    // Whichever of the two comes first, the device has the new size in the end.
    assert_eq!(desk.size_of_device(), Some(8 * MIB));
    let end = 8 * MIB / BLOCK - 1;
    desk.write(end);
    assert_eq!(desk.result_of(end), Some(Ok(())));
}

#[test]
fn a_close_waits_for_the_last_flush_of_the_peer_in_every_mode() {
    let mut desk = Desk::in_sync(LAG);
    desk.write(7);
    desk.hold(|body| matches!(body, Body::Flush { .. }));
    desk.tell(Event::Close { ticket: Ticket(2) });
    assert_eq!(desk.closed(), None);
    desk.answer_held(Body::Ack { result: Ok(()) });
    assert_eq!(desk.closed(), Some(true));
    assert!(desk.report().clean);
}
