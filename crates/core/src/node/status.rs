//! What a member shows of itself and of what it knows.

use super::run::Node;
use crate::document::Document;
use crate::ids::{Epoch, GroupId, HostBoot, Incarnation, MemberId, ResourceId, Term, Version};
use crate::plan::{Plan, Presence};
use crate::report::Report;
use crate::time::Now;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A snapshot for the API. Everything in it is this member's own knowledge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub me: MemberId,
    pub boot: HostBoot,
    pub incarnation: Incarnation,
    pub term: Term,
    pub leader: Option<MemberId>,
    /// Newest document on disk, and newest version known to be committed.
    pub version: Version,
    pub committed: Version,
    pub lease_held: bool,
    pub permits: BTreeMap<GroupId, Epoch>,
    pub document: Option<Arc<Document>>,
    pub members: BTreeMap<MemberId, MemberStatus>,
    pub plan: Plan,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    pub presence: Presence,
    pub online_for: Duration,
    pub report: Option<Report>,
    /// What this member does about fencing it.
    pub fencing: Option<String>,
}

impl Node {
    /// Why a resource is started or stopped here now, in one sentence: what happened here, or what the
    /// cluster decided last about its group.
    #[must_use]
    pub fn cause(&self, group: &GroupId, resource: &ResourceId) -> String {
        let decided = || {
            let document = self.agreement.kept()?;
            let placement = document.groups.get(group)?;
            Some(placement.reason.text(&document.config))
        };
        let here = self.groups.cause(group, resource);
        here.or_else(decided).unwrap_or_default()
    }

    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let document = self.agreement.kept().cloned();
        let members = document
            .as_ref()
            .map(|document| self.view(now.moment(), document).members);
        let members = members
            .unwrap_or_default()
            .into_iter()
            .map(|(member, view)| {
                let crate::plan::MemberView {
                    presence,
                    online_for,
                    report,
                    ..
                } = view;
                (
                    member,
                    MemberStatus {
                        presence,
                        online_for,
                        report,
                        fencing: self.fences.text(member),
                    },
                )
            })
            .collect();
        Status {
            me: self.id.me,
            boot: self.id.boot,
            incarnation: self.id.incarnation,
            term: self.agreement.term(),
            leader: self.agreement.leader(),
            version: self.agreement.kept_version(),
            committed: self.agreement.committed(),
            lease_held: self.lease_held,
            permits: self.groups.permits().clone(),
            document,
            members,
            plan: self.outlook(now).unwrap_or_default(),
        }
    }
}
