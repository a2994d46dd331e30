//! Every document there was, which of them were said to be committed, and who led.

use crate::check::Rule;
use hotpair_core::document::Document;
use hotpair_core::ids::{MemberId, Term, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Kept outside the code under test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The document each one was made from, and what it says.
    documents: BTreeMap<Version, (Version, u64)>,
    committed: BTreeSet<Version>,
    leaders: BTreeMap<Term, MemberId>,
}

impl Ledger {
    /// A member that had `before` keeps `document`.
    ///
    /// # Errors
    /// When another document has the same version.
    pub fn saw(&mut self, document: &Document, before: Version) -> Result<(), Rule> {
        let mut hasher = DefaultHasher::new();
        document.hash(&mut hasher);
        let says = hasher.finish();
        match self.documents.get(&document.version) {
            Some(&(_, known)) if known == says => Ok(()),
            Some(_) => Err(Rule::OneDocumentPerVersion),
            None => {
                self.documents.insert(document.version, (before, says));
                Ok(())
            }
        }
    }

    /// `member` leads in `term`.
    ///
    /// # Errors
    /// When another does.
    pub fn leads(&mut self, member: MemberId, term: Term) -> Result<(), Rule> {
        if *self.leaders.entry(term).or_insert(member) == member {
            Ok(())
        } else {
            Err(Rule::OneLeader)
        }
    }

    /// Does the document of version `newer` rest on that of version `older`?
    #[must_use]
    pub fn descends(&self, newer: Version, older: Version) -> bool {
        let mut at = newer;
        while at > older {
            match self.documents.get(&at) {
                Some(&(parent, _)) if parent < at => at = parent,
                _ => return false,
            }
        }
        at == older
    }

    /// Somebody acts on `version` as committed.
    ///
    /// # Errors
    /// When it and the other committed ones are no chain.
    pub fn committed(&mut self, version: Version) -> Result<(), Rule> {
        if version == Version::ZERO || !self.committed.insert(version) {
            return Ok(());
        }
        let before = self.committed.range(..version).next_back();
        let after = self.committed.range(version..).nth(1);
        let chain = before.is_none_or(|&before| self.descends(version, before))
            && after.is_none_or(|&after| self.descends(after, version));
        if chain { Ok(()) } else { Err(Rule::Chain) }
    }

    /// The newest version said to be committed.
    #[must_use]
    pub fn newest_committed(&self) -> Version {
        self.committed.last().copied().unwrap_or(Version::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::{Setting, Start};

    fn document(term: u64, index: u64) -> Document {
        let mut document = Document::first(Setting::pair(Start::Cold).cluster());
        document.version = Version::new(term, index);
        document
    }

    #[test]
    fn notices_two_documents_of_one_version() {
        let mut ledger = Ledger::default();
        let one = document(1, 1);
        let mut other = one.clone();
        other.disarmed = true;
        assert_eq!(ledger.saw(&one, Version::ZERO), Ok(()));
        assert_eq!(ledger.saw(&one, Version::ZERO), Ok(()));
        assert_eq!(
            ledger.saw(&other, Version::ZERO),
            Err(Rule::OneDocumentPerVersion)
        );
    }

    #[test]
    fn notices_committed_documents_that_do_not_include_each_other() {
        let mut ledger = Ledger::default();
        let first = Version::new(1, 1);
        ledger.saw(&document(1, 1), Version::ZERO).unwrap_or(());
        ledger.saw(&document(2, 2), first).unwrap_or(());
        ledger.saw(&document(3, 2), first).unwrap_or(());
        assert_eq!(ledger.committed(Version::new(2, 2)), Ok(()));
        assert_eq!(ledger.committed(Version::new(3, 2)), Err(Rule::Chain));
    }

    #[test]
    fn notices_two_leaders_of_a_term() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.leads(MemberId(1), Term(2)), Ok(()));
        assert_eq!(ledger.leads(MemberId(2), Term(3)), Ok(()));
        assert_eq!(ledger.leads(MemberId(2), Term(2)), Err(Rule::OneLeader));
    }
}
