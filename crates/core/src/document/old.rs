//! Reads documents of the format before. postcard writes neither names nor lengths of structures, so
//! what has got more fields since is described here as it was.
//!
//! A document that was read has the present format: all of its members with this build read the same
//! out of it. It keeps its version; nothing is decided by reading it.

use super::{Document, FORMAT, Membership};
use crate::config::{
    Check, Cluster, Confirm, Detector, Failback, Fencing, FinalAction, Flapping, Group, Link, Node,
    OnStartFailure, OnStopFailure, OnSwitchFailure, Resource, ResourceKind, Restart, StartMode,
    Takeover, Timing, WithoutWitness, Witness, third_vote,
};
use crate::ids::{ClusterId, GroupId, HostBoot, Incarnation, MemberId, ResourceId};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The oldest format that is read.
pub(super) const OLDEST: u16 = 3;

/// Fields of a document.
const FIELDS: usize = 10;

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Self::deserialize(deserializer);
        }
        deserializer.deserialize_tuple(FIELDS, Fields)
    }
}

/// The fields in their order; the format decides how the configuration is read.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cluster document")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Document, A::Error> {
        let version = next(&mut fields)?;
        let format: u16 = next(&mut fields)?;
        if format < OLDEST {
            return Err(A::Error::custom(format!(
                "the document has format {format}; this build reads {OLDEST} to {FORMAT}"
            )));
        }
        Ok(Document {
            version,
            format: format.max(FORMAT),
            revision: next(&mut fields)?,
            config: if format == 3 {
                next::<_, Cluster3>(&mut fields)?.into()
            } else {
                next(&mut fields)?
            },
            voters: next(&mut fields)?,
            groups: next(&mut fields)?,
            members: if format == 3 {
                let members: BTreeMap<MemberId, Membership3> = next(&mut fields)?;
                members
                    .into_iter()
                    .map(|(id, it)| (id, it.into()))
                    .collect()
            } else {
                next(&mut fields)?
            },
            disarmed: next(&mut fields)?,
            history: next(&mut fields)?,
            numbers: next(&mut fields)?,
        })
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(fields: &mut A) -> Result<T, A::Error> {
    let field = fields.next_element()?;
    field.ok_or_else(|| A::Error::custom("the document ends early"))
}

/// Before fence devices, relations between groups, and hooks.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Cluster3 {
    name: String,
    id: ClusterId,
    timing: Timing,
    nodes: BTreeMap<MemberId, Node>,
    #[serde(with = "third_vote")]
    witness: Option<Witness>,
    without_witness: WithoutWitness,
    links: Vec<Link>,
    groups: BTreeMap<GroupId, Group3>,
    flapping: Flapping,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Group3 {
    resources: BTreeMap<ResourceId, Resource3>,
    nodes: Vec<MemberId>,
    start: StartMode,
    takeover: Takeover,
    failback: Failback,
    restart: Restart,
    on_start_failure: OnStartFailure,
    on_stop_failure: OnStopFailure,
    final_action: FinalAction,
    on_switch_failure: OnSwitchFailure,
    priority: i32,
    ungated: bool,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Detector3 {
    check: Check,
    interval: Duration,
    timeout: Duration,
    tries: u32,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Resource3 {
    kind: ResourceKind,
    requires: BTreeSet<ResourceId>,
    detectors: Vec<Detector3>,
    start_timeout: Duration,
    stop_timeout: Duration,
    running_within: Duration,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Membership3 {
    maintenance: bool,
    drained: bool,
    left: bool,
    left_run: Option<(HostBoot, Incarnation)>,
    held_out: bool,
    forgiven: u32,
    down_boot: Option<HostBoot>,
    forced: bool,
}

impl From<Membership3> for Membership {
    fn from(old: Membership3) -> Self {
        Self {
            maintenance: old.maintenance,
            drained: old.drained,
            left: old.left,
            left_run: old.left_run,
            held_out: old.held_out,
            forgiven: old.forgiven,
            down_boot: old.down_boot,
            down_by: None,
            forced: old.forced,
            fencing: None,
        }
    }
}

impl From<Cluster3> for Cluster {
    fn from(old: Cluster3) -> Self {
        let groups = old.groups.into_iter();
        Self {
            name: old.name,
            id: old.id,
            timing: old.timing,
            nodes: old.nodes,
            witness: old.witness,
            without_witness: old.without_witness,
            links: old.links,
            groups: groups.map(|(id, group)| (id, group.into())).collect(),
            flapping: old.flapping,
            fencing: Fencing::default(),
        }
    }
}

impl From<Group3> for Group {
    fn from(old: Group3) -> Self {
        let resources = old.resources.into_iter();
        Self {
            resources: resources.map(|(id, it)| (id, it.into())).collect(),
            nodes: old.nodes,
            start: old.start,
            takeover: old.takeover,
            failback: old.failback,
            restart: old.restart,
            on_start_failure: old.on_start_failure,
            on_stop_failure: old.on_stop_failure,
            final_action: old.final_action,
            on_switch_failure: old.on_switch_failure,
            priority: old.priority,
            ungated: old.ungated,
            fence: false,
            confirm: Confirm::No,
            relations: Vec::new(),
        }
    }
}

impl From<Detector3> for Detector {
    fn from(old: Detector3) -> Self {
        Self {
            check: old.check,
            interval: old.interval,
            timeout: old.timeout,
            tries: old.tries,
            of_node: false,
        }
    }
}

impl From<Resource3> for Resource {
    fn from(old: Resource3) -> Self {
        Self {
            kind: old.kind,
            requires: old.requires,
            detectors: old.detectors.into_iter().map(Detector::from).collect(),
            hooks: Vec::new(),
            start_timeout: old.start_timeout,
            stop_timeout: old.stop_timeout,
            running_within: old.running_within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Relation, RelationKind, Strength};

    fn document() -> Document {
        let resource = Resource {
            kind: ResourceKind::Service(crate::config::Service {
                command: vec!["/bin/app".into()],
                environment: crate::config::Environment::default(),
            }),
            requires: BTreeSet::new(),
            detectors: vec![Detector {
                check: Check::Process { name: "app".into() },
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(3),
                tries: 2,
                of_node: false,
            }],
            hooks: Vec::new(),
            start_timeout: Duration::from_secs(1),
            stop_timeout: Duration::from_secs(2),
            running_within: Duration::from_secs(3),
        };
        let group = Group {
            resources: BTreeMap::from([("app".into(), resource)]),
            nodes: vec![MemberId(2), MemberId(1)],
            start: StartMode::Automatic,
            takeover: Takeover::HighestOnly,
            failback: Failback::Stay,
            restart: Restart::default(),
            on_start_failure: OnStartFailure::Retry(2),
            on_stop_failure: OnStopFailure::Kill,
            final_action: FinalAction::Reboot,
            on_switch_failure: OnSwitchFailure::Wait,
            priority: -5,
            ungated: true,
            fence: false,
            confirm: Confirm::No,
            relations: Vec::new(),
        };
        let node = |name: &str| Node {
            name: name.into(),
            description: String::new(),
        };
        let mut document = Document::first(Cluster {
            name: "pair".into(),
            id: ClusterId(7),
            timing: Timing::standard(),
            nodes: BTreeMap::from([(MemberId(1), node("one")), (MemberId(2), node("two"))]),
            witness: Some(Witness {
                id: MemberId(3),
                name: "witness".into(),
                addresses: vec![([10, 0, 0, 3], 7500).into()],
                disk: None,
            }),
            without_witness: WithoutWitness::Wait,
            links: Vec::new(),
            groups: BTreeMap::from([("db".into(), group.clone()), ("web".into(), group)]),
            flapping: Flapping::default(),
            fencing: Fencing::default(),
        });
        let member = document.members.get_mut(&MemberId(2)).expect("a node");
        member.drained = true;
        member.down_boot = Some(HostBoot(5));
        let reason = crate::reason::Reason::FirstStart;
        document.record(Some("db".into()), None, Some(MemberId(1)), reason);
        document
    }

    fn written_by_3(resource: Resource) -> Resource3 {
        Resource3 {
            kind: resource.kind,
            requires: resource.requires,
            detectors: resource
                .detectors
                .into_iter()
                .map(|it| Detector3 {
                    check: it.check,
                    interval: it.interval,
                    timeout: it.timeout,
                    tries: it.tries,
                })
                .collect(),
            start_timeout: resource.start_timeout,
            stop_timeout: resource.stop_timeout,
            running_within: resource.running_within,
        }
    }

    /// As a build of format 3 wrote it.
    fn written_by_format_3(document: &Document) -> Vec<u8> {
        let config = document.config.clone();
        let groups = config.groups.into_iter().map(|(id, group)| {
            let old = Group3 {
                resources: group
                    .resources
                    .into_iter()
                    .map(|(id, it)| (id, written_by_3(it)))
                    .collect(),
                nodes: group.nodes,
                start: group.start,
                takeover: group.takeover,
                failback: group.failback,
                restart: group.restart,
                on_start_failure: group.on_start_failure,
                on_stop_failure: group.on_stop_failure,
                final_action: group.final_action,
                on_switch_failure: group.on_switch_failure,
                priority: group.priority,
                ungated: group.ungated,
            };
            (id, old)
        });
        let config = Cluster3 {
            name: config.name,
            id: config.id,
            timing: config.timing,
            nodes: config.nodes,
            witness: config.witness,
            without_witness: config.without_witness,
            links: config.links,
            groups: groups.collect(),
            flapping: config.flapping,
        };
        let members = document.members.iter().map(|(&id, member)| {
            let old = Membership3 {
                maintenance: member.maintenance,
                drained: member.drained,
                left: member.left,
                left_run: member.left_run,
                held_out: member.held_out,
                forgiven: member.forgiven,
                down_boot: member.down_boot,
                forced: member.forced,
            };
            (id, old)
        });
        let members: BTreeMap<MemberId, Membership3> = members.collect();
        let head = (document.version, 3u16, document.revision, config);
        let rest = (
            &document.voters,
            &document.groups,
            members,
            document.disarmed,
            &document.history,
            &document.numbers,
        );
        postcard::to_allocvec(&(head, rest)).expect("it can be written")
    }

    #[test]
    fn document_of_the_format_before_is_read_as_one_of_this_format() {
        let document = document();
        let bytes = written_by_format_3(&document);
        let read: Document = postcard::from_bytes(&bytes).expect("it is read");
        assert_eq!(read, document);
    }

    #[test]
    fn document_is_read_as_it_was_written() {
        let mut document = document();
        let web = document.config.groups.get_mut(&"web".into());
        web.expect("it is there").relations = vec![Relation {
            kind: RelationKind::With,
            group: "db".into(),
            strength: Strength::Hard,
        }];
        let bytes = postcard::to_allocvec(&document).expect("it can be written");
        assert_eq!(postcard::from_bytes(&bytes), Ok(document.clone()));
        // What follows in a message is not eaten, and what ends early is an error.
        let message = (document.clone(), 77u64);
        let bytes = postcard::to_allocvec(&message).expect("it can be written");
        assert_eq!(postcard::from_bytes(&bytes), Ok(message));
        for len in 0..bytes.len() - 2 {
            assert!(postcard::from_bytes::<Document>(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn document_of_an_older_format_is_refused() {
        let mut document = document();
        document.format = OLDEST - 1;
        let bytes = postcard::to_allocvec(&document).expect("it can be written");
        assert!(postcard::from_bytes::<Document>(&bytes).is_err());
    }
}
