//! What a client sees under single faults, on quiet machines with equal clocks.

use hotpair_core::config::Timing;
use hotpair_core::ids::GroupId;
use hotpair_core::request::Request;
use hotpair_sim::cluster::{group_id, member, plain, quiet};
use hotpair_sim::fault::Fault;
use hotpair_sim::operator::unsettled;
use hotpair_sim::world::{Event, World};
use std::time::Duration;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;

/// Two nodes and a witness with `groups` groups, all running; the nodes preferred in turn.
fn running(groups: usize, timing: &Timing, seed: u64) -> World {
    let cluster = plain(2, true, groups, timing.clone());
    let mut world = World::new(&cluster, &quiet(3), seed);
    for _ in 0..200 {
        world.run_for(100 * MS);
        if unsettled(&world).is_none() {
            world.run_for(SECOND);
            return world;
        }
    }
    panic!("not running after 20 s: {:?}", unsettled(&world));
}

/// Longest time within `span_us` in which nobody answers for the group, in milliseconds.
fn outage_ms(world: &mut World, group: &GroupId, span_us: u64) -> u64 {
    let (mut longest, mut present) = (0, 0);
    for _ in 0..span_us / MS {
        world.run_for(MS);
        present = if world.serving(group).is_some() {
            0
        } else {
            present + 1
        };
        longest = longest.max(present);
    }
    assert_eq!(world.violation, None);
    longest
}

fn inflict(world: &mut World, fault: Fault) {
    world.queue.push(world.now_us, Event::Fault(fault));
}

fn active(world: &World, group: &GroupId) -> usize {
    world.serving(group).expect("the group runs")
}

fn profiles() -> [Timing; 2] {
    [Timing::standard(), Timing::fast()]
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[test]
fn power_cut_of_the_active_node_is_answered_by_the_other_within_the_lease_and_its_start() {
    for timing in profiles() {
        for seed in 1..=8 {
            let mut world = running(1, &timing, seed);
            let group = group_id(0);
            let host = active(&world, &group);
            world.power_cut(host, 60 * SECOND);
            let outage = outage_ms(&mut world, &group, 5 * SECOND);
            let start = 25;
            let most = ms(timing.lease) + ms(timing.heartbeat) / 2 + 15 + start;
            assert!(
                outage > 0 && outage <= most,
                "seed {seed}: {outage} ms, {most} allowed"
            );
            assert_ne!(world.serving(&group), Some(host));
        }
    }
}

#[test]
fn power_cut_of_a_standby_interrupts_nothing_whether_it_leads_or_not() {
    let mut led = [false; 2];
    for timing in profiles() {
        for seed in 1..=12 {
            let mut world = running(2, &timing, seed);
            // Each node is active for one group and standby for the other.
            let leader = world.leader().expect("somebody leads");
            for (index, group) in [group_id(0), group_id(1)].iter().enumerate() {
                if index == 1 {
                    world = running(2, &timing, seed);
                }
                let standby = 1 - active(&world, group);
                led[usize::from(standby == leader)] = true;
                world.power_cut(standby, 3 * SECOND);
                assert_eq!(outage_ms(&mut world, group, 8 * SECOND), 0, "seed {seed}");
            }
        }
    }
    assert_eq!(
        led,
        [true, true],
        "both a leading and a following standby were cut"
    );
}

#[test]
fn killed_daemon_interrupts_nothing() {
    for timing in profiles() {
        for host in 0..2 {
            let mut world = running(2, &timing, 3);
            world.kill_daemon(host, 300 * MS);
            for group in [group_id(0), group_id(1)] {
                assert_eq!(outage_ms(&mut world, &group, 3 * SECOND), 0);
            }
        }
    }
}

#[test]
fn witness_that_fails_and_comes_back_interrupts_nothing() {
    for down in [200 * MS, 5 * SECOND, 15 * SECOND] {
        let mut world = running(2, &Timing::standard(), 5);
        world.power_cut(2, down);
        assert_eq!(outage_ms(&mut world, &group_id(0), 25 * SECOND), 0);
        assert_eq!(unsettled(&world), None);
    }
}

#[test]
fn mutual_standby_stays_where_it_is_when_only_the_nodes_lose_each_other() {
    for timing in profiles() {
        let mut world = running(2, &timing, 7);
        let before = [0, 1].map(|index| active(&world, &group_id(index)));
        inflict(
            &mut world,
            Fault::Cut {
                a: 0,
                b: 1,
                for_us: 10 * SECOND,
            },
        );
        for index in [0, 1] {
            assert_eq!(outage_ms(&mut world, &group_id(index), 7 * SECOND), 0);
        }
        let after = [0, 1].map(|index| active(&world, &group_id(index)));
        assert_eq!(before, after);
    }
}

#[test]
fn survivor_keeps_its_group_when_its_daemon_is_killed() {
    for timing in profiles() {
        let mut world = running(1, &timing, 9);
        let host = active(&world, &group_id(0));
        world.power_cut(1 - host, 600 * SECOND);
        world.run_for(3 * SECOND);
        world.kill_daemon(host, 300 * MS);
        assert_eq!(outage_ms(&mut world, &group_id(0), 4 * SECOND), 0);
    }
}

#[test]
fn power_cut_just_after_a_change_of_the_document_is_survived_like_any_other() {
    let timing = Timing::standard();
    for after_us in (0..20).map(|step| step * MS) {
        let mut world = running(1, &timing, 11);
        let group = group_id(0);
        let host = active(&world, &group);
        let version = world.ledger.newest().map(|document| document.version);
        // A change that moves nothing: the active node shall not take the group over again.
        let node = Some(member(host));
        let request = Request::GroupDisable {
            group: group.clone(),
            node,
        };
        world.ask(host, request);
        for _ in 0..1_000 {
            if world.ledger.newest().map(|document| document.version) != version {
                break;
            }
            world.run_for(50);
        }
        world.run_for(after_us);
        world.power_cut(host, 60 * SECOND);
        let outage = outage_ms(&mut world, &group, 6 * SECOND);
        assert!(
            outage <= ms(timing.lease) * 2,
            "cut after {after_us} µs: {outage} ms"
        );
    }
}

#[test]
fn paused_host_is_taken_over_and_does_not_answer_again_when_it_goes_on() {
    for timing in profiles() {
        let mut world = running(1, &timing, 13);
        let group = group_id(0);
        let host = active(&world, &group);
        inflict(
            &mut world,
            Fault::Pause {
                host,
                for_us: 5 * SECOND,
            },
        );
        outage_ms(&mut world, &group, 10 * SECOND);
        assert_eq!(world.serving(&group), Some(1 - host));
    }
}

#[test]
fn stopped_clocks_leave_a_double_answer_of_at_most_a_heartbeat_and_a_round_trip() {
    let timing = Timing::standard();
    for seed in 1..=10 {
        let mut world = running(1, &timing, seed);
        let group = group_id(0);
        let host = active(&world, &group);
        inflict(
            &mut world,
            Fault::StopClocks {
                host,
                for_us: 5 * SECOND,
            },
        );
        let mut double_ms = 0;
        for _ in 0..10_000 {
            world.run_for(MS);
            double_ms += u64::from(world.serves(host, &group) && world.serves(1 - host, &group));
        }
        assert!(double_ms <= ms(timing.heartbeat) + 5, "{double_ms} ms");
        assert_eq!(world.serving(&group), Some(1 - host));
    }
}

#[test]
fn frozen_daemon_loses_the_group_without_a_double_answer() {
    for timing in profiles() {
        let mut world = running(1, &timing, 15);
        let group = group_id(0);
        let host = active(&world, &group);
        inflict(
            &mut world,
            Fault::FreezeDaemon {
                host,
                for_us: 8 * SECOND,
            },
        );
        let outage = outage_ms(&mut world, &group, 6 * SECOND);
        assert!(outage <= 2 * ms(timing.lease) + 300, "{outage} ms");
        assert_eq!(world.serving(&group), Some(1 - host));
    }
}

#[test]
fn switchover_ends_the_stop_before_the_start() {
    for timing in profiles() {
        let mut world = running(1, &timing, 17);
        let group = group_id(0);
        let host = active(&world, &group);
        world.ask(
            host,
            Request::GroupSwitch {
                group: group.clone(),
                to: Some(member(1 - host)),
            },
        );
        let outage = outage_ms(&mut world, &group, 5 * SECOND);
        assert!(outage <= 120, "{outage} ms");
        assert_eq!(world.serving(&group), Some(1 - host));
    }
}

#[test]
fn two_nodes_without_a_witness_wait_for_the_operator_and_take_over_on_a_true_word() {
    let cluster = plain(2, false, 1, Timing::standard());
    let mut world = World::new(&cluster, &quiet(2), 19);
    world.run_for(15 * SECOND);
    let group = group_id(0);
    let host = active(&world, &group);
    world.power_cut(host, 600 * SECOND);
    world.run_for(10 * SECOND);
    assert_eq!(world.serving(&group), None);
    world.ask(1 - host, Request::NodeIsDown { node: member(host) });
    world.run_for(5 * SECOND);
    assert_eq!(world.serving(&group), Some(1 - host));
    assert_eq!(world.violation, None);
}
