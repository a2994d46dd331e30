use super::*;
use crate::config::{
    CopyPlace, Environment, Export, FilesystemCheck, Mirror, MirrorMode, Mount, Ocf, OnDiskFailure,
    OnSplitBrain, Service,
};

fn run_as(rig: &mut Rig, resource: &str, command: &str) {
    let resource = rig.config.resources.get_mut(&resource.into());
    resource.expect("it is in the rig").kind = ResourceKind::Service(Service {
        command: vec![command.into()],
        environment: Environment::default(),
    });
}

#[test]
fn changed_command_restarts_the_resource_and_what_requires_it() {
    let mut rig = Rig::chain().running();
    run_as(&mut rig, "b", "/usr/bin/newer");
    assert_eq!(rig.settle(), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["stop b"]);
    assert_eq!(rig.ok("stop b"), ["start b"]);
    assert_eq!(rig.ok("start b"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn changed_command_does_not_count_as_a_restart_after_a_failure() {
    let mut rig = Rig::chain().running();
    rig.config.restart.max = 0;
    run_as(&mut rig, "c", "/usr/bin/newer");
    assert_eq!(rig.settle(), ["stop c"]);
    assert_eq!(rig.ok("stop c"), ["start c"]);
    assert_eq!(rig.ok("start c"), NONE);
    assert_eq!(rig.state(), GroupState::Running);
    assert_eq!(rig.report().resources[&"c".into()].restarts, 0);
}

#[test]
fn changed_detectors_and_limits_touch_nothing() {
    let mut rig = Rig::chain().running();
    for resource in rig.config.resources.values_mut() {
        resource.stop_timeout *= 2;
    }
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.state(), GroupState::Running);
}

#[test]
fn change_during_the_start_takes_effect_after_it() {
    let mut rig = Rig::chain();
    assert_eq!(rig.settle(), ["start a"]);
    run_as(&mut rig, "a", "/usr/bin/newer");
    assert_eq!(rig.settle(), NONE);
    assert_eq!(rig.ok("start a"), ["stop a"]);
    assert_eq!(rig.ok("stop a"), ["start a"]);
}

/// A mirror with a filesystem on it.
fn mirrored() -> Rig {
    let copy = || CopyPlace {
        device: "/dev/sdb".into(),
        metadata: None,
    };
    let mirror = Mirror {
        size: 1 << 30,
        mode: MirrorMode::Synchronous,
        copies: [(MemberId(1), copy()), (MemberId(2), copy())].into(),
        port: 14_400,
        links: Vec::new(),
        resync_rate: None,
        on_disk_failure: OnDiskFailure::FailOver,
        on_split_brain: OnSplitBrain::ByHand,
        export: Export::Auto,
        source: MemberId(1),
    };
    let mount = Mount {
        mirror: "data".into(),
        path: "/srv/data".into(),
        filesystem: "ext4".into(),
        options: Vec::new(),
        check: FilesystemCheck::Safe,
        make: false,
        kill_users: false,
    };
    Rig::of(&[
        ("data", resource(ResourceKind::Mirror(mirror), &[])),
        ("files", resource(ResourceKind::Mount(mount), &["data"])),
    ])
}

#[test]
fn changed_path_mounts_anew_and_changed_size_touches_nothing() {
    let mut rig = mirrored().running();
    assert_eq!(rig.settle(), NONE, "what runs as configured stays");
    for resource in rig.config.resources.values_mut() {
        match &mut resource.kind {
            ResourceKind::Mirror(mirror) => {
                mirror.size *= 2;
                mirror.mode = MirrorMode::Memory;
            }
            ResourceKind::Mount(mount) => mount.kill_users = true,
            _ => {}
        }
    }
    assert_eq!(rig.settle(), NONE);
    for resource in rig.config.resources.values_mut() {
        if let ResourceKind::Mount(mount) = &mut resource.kind {
            mount.path = "/srv/other".into();
        }
    }
    assert_eq!(rig.settle(), ["stop files"]);
    assert_eq!(rig.ok("stop files"), ["start files"]);
    assert_eq!(rig.ok("start files"), NONE);
}

#[test]
fn copy_of_another_machine_touches_nothing_and_a_new_place_of_ones_own_starts_anew() {
    let mut rig = mirrored().running();
    let change = |rig: &mut Rig, change: &dyn Fn(&mut Mirror)| {
        for resource in rig.config.resources.values_mut() {
            if let ResourceKind::Mirror(mirror) = &mut resource.kind {
                change(mirror);
            }
        }
    };
    change(&mut rig, &|mirror| {
        let copy = mirror.copies.remove(&MemberId(2)).expect("two copies");
        mirror.copies.insert(MemberId(3), copy);
        mirror.port += 1;
    });
    assert_eq!(rig.settle(), NONE, "services run on");
    change(&mut rig, &|mirror| {
        let copy = mirror.copies.get_mut(&MemberId(1)).expect("it is here");
        copy.device = "/dev/sdc".into();
    });
    assert_eq!(rig.settle(), ["stop files"]);
    assert_eq!(rig.ok("stop files"), ["stop data"]);
}

#[test]
fn changed_parameter_starts_an_agents_resource_anew_and_changed_monitoring_touches_nothing() {
    let ocf = Ocf {
        provider: "heartbeat".into(),
        agent: "Dummy".into(),
        parameters: BTreeMap::new(),
        interval: Duration::from_secs(10),
        monitor_timeout: Duration::from_secs(20),
        check_level: 0,
    };
    let mut rig = Rig::of(&[("vip", resource(ResourceKind::Ocf(ocf), &[]))]);
    assert_eq!(rig.settle(), ["start vip"]);
    assert_eq!(
        rig.ok("start vip"),
        ["check vip"],
        "its monitor is waited for"
    );
    rig.found("vip", true);
    let change = |rig: &mut Rig, change: &dyn Fn(&mut Ocf)| {
        for resource in rig.config.resources.values_mut() {
            if let ResourceKind::Ocf(ocf) = &mut resource.kind {
                change(ocf);
            }
        }
    };
    change(&mut rig, &|ocf| {
        ocf.interval *= 2;
        ocf.check_level = 10;
    });
    assert_eq!(rig.settle(), NONE);
    change(&mut rig, &|ocf| {
        ocf.parameters.insert("fake".into(), "new".into());
    });
    assert_eq!(rig.settle(), ["stop vip"]);
}
