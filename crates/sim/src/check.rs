//! What must hold, whatever happens: checked outside the code under test.

use hotpair_core::config::{RelationKind, Strength};
use hotpair_core::document::Document;
use hotpair_core::ids::{Epoch, GroupId, MemberId, Term, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub at_us: u64,
    pub text: String,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No group is active on two nodes.
    SingleActive,
    /// A version names one document.
    OneDocumentPerVersion,
    /// Every committed document includes all that were committed before.
    CommittedIsKept,
    /// What is said to be committed is on the disks of a majority.
    CommittedIsDurable,
    /// A node may run a group only by a document that is known to be committed.
    StartOnCommitted,
    /// A group is taken over within the time its timing promises.
    TakenOver,
    /// Epochs and revisions only rise.
    OnlyForward,
    /// A group is given to a node only where no hard relation to another group is broken by it.
    Related,
    /// One leader in a term.
    OneLeader,
    /// Every action and request ends.
    ActionsEnd,
    /// Everything decided or refused says why.
    Reasons,
    /// Work and traffic are bounded.
    BoundedWork,
    /// A write to a mirror is acknowledged when it is on every copy that counts as up to date.
    MirrorRecorded,
    /// What was written to a mirror and acknowledged is read, never something older; and both copies
    /// are equal at the end.
    MirrorData,
    /// Only a copy that is up to date is used, and a copy counts as up to date only if its disk is.
    MirrorPromoted,
    /// What a side wrote alone is kept before it is overwritten.
    MirrorKept,
    /// Once everything is healed, everything runs again.
    Liveness,
    /// The core gave up on an assertion.
    Panic,
}

/// Every document there ever was, and what became of it.
#[derive(Default)]
pub struct Ledger {
    documents: BTreeMap<Version, Arc<Document>>,
    /// The document each one was made from.
    parents: BTreeMap<Version, Version>,
    committed: BTreeSet<Version>,
    leaders: BTreeMap<Term, MemberId>,
}

impl Ledger {
    /// The newest document known to be committed.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Document>> {
        self.documents.get(self.committed.last()?)
    }

    /// Is the version known to be committed already?
    #[must_use]
    pub fn knows_committed(&self, version: Version) -> bool {
        version == Version::ZERO || self.committed.contains(&version)
    }

    /// Does a document known to be committed make `member` the holder of `group` in `epoch`?
    #[must_use]
    pub fn gave(&self, member: MemberId, group: &GroupId, epoch: Epoch) -> bool {
        self.committed.iter().rev().any(|version| {
            self.documents
                .get(version)
                .and_then(|document| document.groups.get(group))
                .is_some_and(|it| it.holder == Some(member) && it.epoch == epoch)
        })
    }

    /// A member keeps `document`, having kept `before`.
    ///
    /// # Errors
    /// When another document has the same version.
    pub fn saw(
        &mut self,
        document: &Arc<Document>,
        before: Option<Version>,
    ) -> Result<(), (Rule, String)> {
        if let Some(known) = self.documents.get(&document.version) {
            if Arc::ptr_eq(known, document) || known == document {
                return Ok(());
            }
            let text = format!("two different documents have version {}", document.version);
            return Err((Rule::OneDocumentPerVersion, text));
        }
        self.documents
            .insert(document.version, Arc::clone(document));
        if let Some(before) = before {
            self.parents.insert(document.version, before);
            if let Some(before) = self.documents.get(&before) {
                related(before, document).map_err(|text| (Rule::Related, text))?;
            }
        }
        Ok(())
    }

    /// `member` leads in `term`.
    ///
    /// # Errors
    /// When another member leads in the same term.
    pub fn leads(&mut self, member: MemberId, term: Term) -> Result<(), (Rule, String)> {
        let known = *self.leaders.entry(term).or_insert(member);
        if known == member {
            return Ok(());
        }
        Err((
            Rule::OneLeader,
            format!("{known} and {member} both lead in term {term}"),
        ))
    }

    /// Does the document of version `newer` rest on that of version `older`?
    #[must_use]
    pub fn descends(&self, newer: Version, older: Version) -> bool {
        let mut at = newer;
        while at > older {
            match self.parents.get(&at) {
                Some(&parent) if parent < at => at = parent,
                _ => return false,
            }
        }
        at == older
    }

    /// Each document after `from` up to `to` that the latter was made from, with the one before it.
    #[must_use]
    pub fn steps(&self, from: Version, to: Version) -> Vec<(Arc<Document>, Arc<Document>)> {
        let mut steps = Vec::new();
        let mut at = to;
        while at > from {
            let Some(parent) = self.parents.get(&at).filter(|&&parent| parent < at) else {
                break;
            };
            if let (Some(old), Some(new)) = (self.documents.get(parent), self.documents.get(&at)) {
                steps.push((Arc::clone(old), Arc::clone(new)));
            }
            at = *parent;
        }
        steps.reverse();
        steps
    }

    /// A member says that `version` is committed; `kept` are the versions on the members' disks.
    ///
    /// # Errors
    /// When an earlier committed document is not included, or too few disks hold this one.
    pub fn committed(
        &mut self,
        version: Version,
        kept: &BTreeMap<MemberId, Version>,
    ) -> Result<(), (Rule, String)> {
        if !self.committed.insert(version) {
            return Ok(());
        }
        let Some(document) = self.documents.get(&version) else {
            let text = format!("version {version} is said to be committed, but nobody kept it");
            return Err((Rule::CommittedIsDurable, text));
        };
        let before = self.committed.range(..version).next_back().copied();
        let after = self.committed.range(version..).nth(1).copied();
        if let Some(before) = before {
            self.follows(before, version)?;
        }
        if let Some(after) = after {
            self.follows(version, after)?;
        }
        let holds = |member| {
            kept.get(&member)
                .is_some_and(|&held| self.descends(held, version))
        };
        if !document.voters.majority(holds) {
            let text = format!(
                "version {version} is said to be committed, but the disks hold {kept:?} (voters {:?})",
                document.voters
            );
            return Err((Rule::CommittedIsDurable, text));
        }
        Ok(())
    }

    fn follows(&self, before: Version, after: Version) -> Result<(), (Rule, String)> {
        if !self.descends(after, before) {
            let text = format!("committed version {after} does not include committed {before}");
            return Err((Rule::CommittedIsKept, text));
        }
        let (Some(old), Some(new)) = (self.documents.get(&before), self.documents.get(&after))
        else {
            return Ok(());
        };
        forward(old, new).map_err(|text| (Rule::OnlyForward, text))
    }
}

fn forward(old: &Document, new: &Document) -> Result<(), String> {
    if new.revision < old.revision {
        return Err(format!(
            "revision fell from {} to {}",
            old.revision, new.revision
        ));
    }
    for (group, before) in &old.groups {
        let Some(after) = new.groups.get(group) else {
            continue;
        };
        let given = after.holder != before.holder && after.holder.is_some();
        if after.epoch < before.epoch || given && after.epoch == before.epoch {
            return Err(format!(
                "group {group}: epoch {} of holder {:?} became epoch {} of holder {:?} ({} to {})",
                before.epoch, before.holder, after.epoch, after.holder, old.version, new.version
            ));
        }
    }
    Ok(())
}

/// What one document gives breaks no hard relation in it.
fn related(old: &Document, new: &Document) -> Result<(), String> {
    let holder = |group: &GroupId| new.groups.get(group).and_then(|it| it.holder);
    let given = |group: &GroupId| {
        let epoch = |document: &Document| document.groups.get(group).map(|it| it.epoch);
        epoch(new) > epoch(old) && holder(group).is_some()
    };
    for (id, config) in &new.config.groups {
        for relation in &config.relations {
            let other = &relation.group;
            let broken = relation.strength == Strength::Hard
                && match relation.kind {
                    RelationKind::With => given(id) && holder(id) != holder(other),
                    RelationKind::Apart => {
                        (given(id) || given(other)) && holder(id) == holder(other)
                    }
                    RelationKind::After => given(id) && holder(other).is_none(),
                };
            if broken {
                return Err(format!(
                    "{id} ({:?}) and {other} ({:?}) break {:?} of {id} in {}",
                    holder(id),
                    holder(other),
                    relation.kind,
                    new.version
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster;
    use hotpair_core::config::{Relation, Timing};
    use hotpair_core::ids::MemberId;

    fn first() -> Arc<Document> {
        Arc::new(Document::first(cluster::plain(
            2,
            true,
            1,
            Timing::standard(),
        )))
    }

    fn next(of: &Document, term: u64, index: u64) -> Arc<Document> {
        let mut document = of.clone();
        document.version = Version::new(term, index);
        Arc::new(document)
    }

    fn on_disks(versions: [Version; 3]) -> BTreeMap<MemberId, Version> {
        (1..).map(MemberId).zip(versions).collect()
    }

    #[test]
    fn notices_two_documents_of_one_version() {
        let mut ledger = Ledger::default();
        let one = first();
        let mut other = (*one).clone();
        other.disarmed = true;
        assert!(ledger.saw(&one, None).is_ok());
        assert!(ledger.saw(&first(), None).is_ok());
        let verdict = ledger.saw(&Arc::new(other), None).map_err(|(rule, _)| rule);
        assert_eq!(verdict, Err(Rule::OneDocumentPerVersion));
    }

    #[test]
    fn notices_a_committed_document_that_was_lost() {
        let mut ledger = Ledger::default();
        let one = first();
        let (left, right) = (next(&one, 2, 2), next(&one, 3, 2));
        ledger.saw(&one, None).unwrap_or_default();
        ledger.saw(&left, Some(one.version)).unwrap_or_default();
        ledger.saw(&right, Some(one.version)).unwrap_or_default();
        let kept = on_disks([left.version, left.version, one.version]);
        assert!(ledger.committed(left.version, &kept).is_ok());
        let kept = on_disks([right.version, left.version, right.version]);
        let verdict = ledger.committed(right.version, &kept);
        assert_eq!(
            verdict.map_err(|(rule, _)| rule),
            Err(Rule::CommittedIsKept)
        );
    }

    #[test]
    fn notices_a_commit_that_is_not_on_a_majority_of_disks() {
        let mut ledger = Ledger::default();
        let one = first();
        let two = next(&one, 1, 2);
        ledger.saw(&one, None).unwrap_or_default();
        ledger.saw(&two, Some(one.version)).unwrap_or_default();
        let kept = on_disks([two.version, one.version, one.version]);
        let verdict = ledger.committed(two.version, &kept);
        assert_eq!(
            verdict.map_err(|(rule, _)| rule),
            Err(Rule::CommittedIsDurable)
        );
    }

    #[test]
    fn notices_a_new_holder_in_an_old_epoch() {
        let one = first();
        let mut two = (*next(&one, 1, 2)).clone();
        for placement in two.groups.values_mut() {
            placement.holder = Some(MemberId(1));
        }
        assert!(forward(&one, &two).is_err());
        for placement in two.groups.values_mut() {
            placement.epoch = placement.epoch.next();
        }
        assert!(forward(&one, &two).is_ok());
    }

    #[test]
    fn notices_a_group_given_against_a_hard_relation() {
        let (g0, g1) = (cluster::group_id(0), cluster::group_id(1));
        for (kind, there) in [
            (RelationKind::With, MemberId(2)),
            (RelationKind::Apart, MemberId(1)),
        ] {
            let mut config = cluster::plain(2, true, 2, Timing::standard());
            let relation = Relation {
                kind,
                group: g0.clone(),
                strength: Strength::Hard,
            };
            config
                .groups
                .get_mut(&g1)
                .expect("it has two groups")
                .relations
                .push(relation);
            let mut one = Document::first(config);
            one.groups.get_mut(&g0).expect("as configured").holder = Some(MemberId(1));
            let mut two = one.clone();
            let placement = two.groups.get_mut(&g1).expect("as configured");
            placement.holder = Some(there);
            // Only what is given counts: the relation may be younger than what runs.
            assert!(related(&one, &two).is_ok());
            let placement = two.groups.get_mut(&g1).expect("as configured");
            placement.epoch = placement.epoch.next();
            assert!(related(&one, &two).is_err());
        }
    }

    #[test]
    fn notices_two_leaders_of_one_term() {
        let mut ledger = Ledger::default();
        assert!(ledger.leads(MemberId(1), Term(4)).is_ok());
        assert!(ledger.leads(MemberId(1), Term(4)).is_ok());
        assert!(ledger.leads(MemberId(2), Term(5)).is_ok());
        assert!(ledger.leads(MemberId(2), Term(4)).is_err());
    }
}
