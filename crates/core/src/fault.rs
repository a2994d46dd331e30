//! Deliberate bugs, to prove that the simulator and the model checker would catch them.
//!
//! Compiled in only with the feature `planted-faults`; without it [`planted`] is `false` and the
//! optimiser removes the branch. One fault is planted at a time, per thread.

/// A bug that was once made, or nearly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A group starts when the document is committed, without asking the voters for promises.
    StartWithoutCheck,
    /// A restarted host answers start checks at once, having forgotten its promises.
    NoSilenceAfterHostRestart,
    /// The lease counts from the receipt of the grant instead of the sending of the request.
    LeaseFromReceipt,
    /// The holder uses the whole length, whatever the clocks do.
    NoDriftMargin,
    /// A voter grants to a node that shows an older document than its own.
    GrantToOlderVersion,
    /// The check is made against the version that is held, not one known to be committed.
    CheckUncommitted,
    /// The check ignores what document the voters hold.
    CheckIgnoresHeld,
    /// A document of an earlier term counts as committed when a majority keeps it.
    CommitEarlierTerm,
    /// A vote or an acceptance is sent before it is durable.
    AnswerBeforeDurable,
    /// A new run of the guard forgets the promises of the host boot.
    GuardForgetsPromises,
    /// A new daemon run counts as a new host boot: its old promises are dropped.
    RunTakenForBoot,
    /// An answer to a beat of an earlier boot or run extends the lease.
    AckOfEarlierBoot,
    /// Voters are replaced in one step.
    SingleStepVoters,
    /// A joint change is finished while old promises still run.
    FinishVotersUnchecked,
    /// A pin is removed without the holder's acknowledgement.
    UnpinWithoutHolder,
    /// A pinned group is taken over like any other.
    TakeOverPinned,
    /// A vote is given twice in one term.
    VoteTwice,
    /// A vote is given to a candidate with an older document.
    VoteForOlderDocument,
    /// A deposed leader's offer is accepted.
    AcceptEarlierTerm,
    /// The document is shown before what it takes away is stopped.
    ShowBeforeCut,
    /// A permit outlives the lease.
    PermitOutlivesLease,
    /// A permit is carried into the next epoch.
    PermitAcrossEpochs,
    /// Renewals are asked for without credit from the decision loop.
    BeatWithoutCredit,
    /// A node that hears no answer goes on asking.
    AskWithoutAnswers,
    /// A stop reported for an earlier epoch moves the group.
    StaleStopMoves,
    /// One vote of two is taken for a majority.
    HalfIsMajority,
    /// A joint change counts as confirmed by what was confirmed before it began.
    ClearedBeforeJoint,
    /// A mirror's report about an earlier state of its data changes the document.
    StaleMirrorReport,
    /// A copy with writes of its own is taken for an outdated one.
    IgnoreDivergence,
    /// A mirror that was not closed in good order is passed on as if it had been.
    TakenForClean,
    /// A node with an outdated copy is given the group.
    PromoteOutdated,
    /// A pin is removed while writes are acknowledged without the cluster's agreement.
    UnpinSolo,
    /// A quorum disk is read before the own slot is written.
    DiskReadsFirst,
    /// A quorum disk is answered for from the read before the last.
    DiskKeepsOldRead,
    /// A start is confirmed for a quorum disk without waiting for what it may have granted.
    DiskDoesNotWait,
    /// A heartbeat that asks for no lease hides on a quorum disk that an earlier one did.
    DiskIdleHidesLease,
    /// A lease counts as refused by a quorum disk for a document that is only just written there.
    DiskRefusesTooSoon,
    /// Slots of a quorum disk that are older than they were are believed.
    DiskTrustsOldSectors,
    /// A node counts as fenced as soon as its device has been asked.
    FenceUnconfirmed,
}

impl Fault {
    /// Every fault, in order.
    pub const ALL: [Self; 38] = [
        Self::StartWithoutCheck,
        Self::NoSilenceAfterHostRestart,
        Self::LeaseFromReceipt,
        Self::NoDriftMargin,
        Self::GrantToOlderVersion,
        Self::CheckUncommitted,
        Self::CheckIgnoresHeld,
        Self::CommitEarlierTerm,
        Self::AnswerBeforeDurable,
        Self::GuardForgetsPromises,
        Self::RunTakenForBoot,
        Self::AckOfEarlierBoot,
        Self::SingleStepVoters,
        Self::FinishVotersUnchecked,
        Self::UnpinWithoutHolder,
        Self::TakeOverPinned,
        Self::VoteTwice,
        Self::VoteForOlderDocument,
        Self::AcceptEarlierTerm,
        Self::ShowBeforeCut,
        Self::PermitOutlivesLease,
        Self::PermitAcrossEpochs,
        Self::BeatWithoutCredit,
        Self::AskWithoutAnswers,
        Self::StaleStopMoves,
        Self::HalfIsMajority,
        Self::ClearedBeforeJoint,
        Self::IgnoreDivergence,
        Self::TakenForClean,
        Self::PromoteOutdated,
        Self::UnpinSolo,
        Self::DiskReadsFirst,
        Self::DiskKeepsOldRead,
        Self::DiskDoesNotWait,
        Self::DiskIdleHidesLease,
        Self::DiskRefusesTooSoon,
        Self::DiskTrustsOldSectors,
        Self::FenceUnconfirmed,
    ];
}

/// `plant` and `planted` for the `Fault` of the module it stands in, by the feature `planted-faults` of the
/// crate it stands in.
#[macro_export]
macro_rules! planting {
    () => {
        #[cfg(feature = "planted-faults")]
        mod switch {
            use super::Fault;
            use std::cell::Cell;

            thread_local! {
                static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
            }

            /// Plants `fault` in this thread, or removes the one planted.
            pub fn plant(fault: Option<Fault>) {
                PLANTED.set(fault);
            }

            /// Is `fault` planted in this thread?
            #[must_use]
            pub fn planted(fault: Fault) -> bool {
                PLANTED.get() == Some(fault)
            }
        }

        #[cfg(not(feature = "planted-faults"))]
        mod switch {
            /// No faults in this build.
            #[inline(always)]
            #[must_use]
            pub const fn planted(_: super::Fault) -> bool {
                false
            }
        }

        #[cfg(feature = "planted-faults")]
        pub use switch::plant;
        pub use switch::planted;
    };
}

planting!();
