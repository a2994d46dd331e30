//! What must hold in every state, and what must come true in some.

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Two hosts let packets of the group pass.
    SingleActive,
    /// Two members lead in one term.
    OneLeader,
    /// Committed documents do not include each other.
    Chain,
    /// Two documents have the same version.
    OneDocumentPerVersion,
}

/// What has come true on the way to a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub faulted: bool,
    pub ran_on_1: bool,
    pub crashed_1: bool,
    pub took_over: bool,
    /// By host: a lease is held; one was lost.
    pub held: [bool; 4],
    pub lost: [bool; 4],
    pub regained: bool,
    pub asked_to_switch: bool,
    pub switched: bool,
    pub pinned: bool,
    pub unpinned: bool,
    pub pinned_again: bool,
}

impl Seen {
    pub fn lease(&mut self, host: usize, held: bool) {
        self.lost[host] |= self.held[host] && !held;
        self.regained |= self.lost[host] && held;
        self.held[host] = held;
    }

    /// `None`: its pin is being released.
    pub fn note_pin(&mut self, pinned: Option<bool>) {
        match pinned {
            Some(true) => {
                self.pinned = true;
                self.pinned_again |= self.unpinned;
            }
            Some(false) => self.unpinned |= self.pinned,
            None => {}
        }
    }
}
