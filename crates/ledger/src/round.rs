//! One power cut: what it takes until clients commit again, and whether anything is lost.

use crate::error::{LedgerError, Result};
use crate::ledger::Ack;
use crate::parts::Parts;
use crate::scene::{NODES, Scene};
use hotpair_lab::Fault;
use hotpair_lab::clock::now_us;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// Whose power is cut, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Cut {
    /// The active node's; it is switched on again after clients commit on the other one.
    Active,
    /// The active node's, and the other one's right after; the one that was active comes back first.
    BothActiveFirst,
    /// The same; the one that was the standby comes back first.
    BothStandbyFirst,
    /// The active node's, and when it is back, while it is synchronised, that of the node which has
    /// the only copy that is up to date.
    Resync,
}

impl Cut {
    /// Every tenth round both nodes, every tenth while synchronising, otherwise the active one.
    pub fn of_round(round: u32) -> Self {
        match round % 20 {
            4 => Self::BothActiveFirst,
            9 | 19 => Self::Resync,
            14 => Self::BothStandbyFirst,
            _ => Self::Active,
        }
    }
}

/// What a round showed.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub cut: Cut,
    /// The node that lost power first, and the one that served the first commit afterwards.
    pub from: String,
    pub to: String,
    /// First commit that was begun after the cut, in ms after it.
    pub first_commit_ms: f64,
    pub parts: Parts,
    /// All acknowledged commits so far.
    pub acknowledged: usize,
    /// Rows in the table that were never acknowledged: sent, and their answer lost.
    pub unacknowledged: usize,
    /// From the cut until both copies were up to date again.
    pub whole_ms: f64,
}

impl Scene {
    /// Cuts the power, waits for commits and for both copies, and compares table and ledger; with
    /// `check`, the database is looked through with its own means as well. What tells of a failure
    /// is saved.
    pub fn round(&mut self, cut: Cut, phase: Duration, check: bool) -> Result<Outcome> {
        self.round_without_evidence(cut, phase, check)
            .map_err(|problem| self.kept(problem))
    }

    fn round_without_evidence(
        &mut self,
        cut: Cut,
        phase: Duration,
        check: bool,
    ) -> Result<Outcome> {
        std::thread::sleep(phase);
        let from = self.active()?;
        let standby = other(&from);
        let before = self.ledger().count();
        let offset_us = wall_us() - i128::from(now_us());
        let at_us = self.fault(&from, Fault::PowerCut)?;
        match cut {
            Cut::Active | Cut::Resync => {}
            Cut::BothActiveFirst | Cut::BothStandbyFirst => {
                std::thread::sleep(phase / 4);
                self.fault(standby, Fault::PowerCut)?;
                let (first, second) = match cut {
                    Cut::BothActiveFirst => (from.as_str(), standby),
                    _ => (standby, from.as_str()),
                };
                self.fault(first, Fault::Boot)?;
                std::thread::sleep(phase * 2);
                self.fault(second, Fault::Boot)?;
            }
        }
        let first = self.first_commit(before, at_us)?;
        let to = first.node.to_string();
        let parts = self.parts(&to, i128::from(at_us) + offset_us);
        if matches!(cut, Cut::Active | Cut::Resync) {
            self.fault(&from, Fault::Boot)?;
        }
        if cut == Cut::Resync {
            // It joins and begins to be synchronised within this time, and may have ended.
            std::thread::sleep(phase * 2);
            self.fault(&to, Fault::PowerCut)?;
            std::thread::sleep(phase);
            self.fault(&to, Fault::Boot)?;
        }
        self.well()?;
        let whole_ms = ms(now_us().saturating_sub(at_us));
        self.nobody_serves_beside_another(before, at_us)?;
        let (acknowledged, unacknowledged) = self.compare()?;
        if check {
            self.check()?;
        }
        Ok(Outcome {
            cut,
            from,
            to,
            first_commit_ms: ms(first.acknowledged_us.saturating_sub(at_us)),
            parts,
            acknowledged,
            unacknowledged,
            whole_ms,
        })
    }

    /// The first commit that was begun after the cut.
    fn first_commit(&self, before: usize, at_us: u64) -> Result<Ack> {
        let ledger = self.ledger();
        let find = || {
            let news = ledger.since(before);
            news.into_iter().find(|ack| ack.sent_us > at_us)
        };
        self.wait("a commit after the cut", || {
            (find().is_some(), ledger.last_error())
        })?;
        find().ok_or_else(|| LedgerError::Broken("an acknowledged commit is gone".to_owned()))
    }

    /// No node acknowledges what was sent to it after another one had taken its place, unless that
    /// one lost power meanwhile: in a round nodes follow each other.
    fn nobody_serves_beside_another(&mut self, before: usize, at_us: u64) -> Result<()> {
        let acks = self.ledger().since(before);
        for taken in acks.iter().filter(|ack| ack.sent_us > at_us) {
            let late = acks.iter().find(|ack| {
                ack.node != taken.node
                    && ack.sent_us > taken.acknowledged_us
                    && acks.iter().any(|again| {
                        again.node == taken.node && again.sent_us > ack.acknowledged_us
                    })
            });
            if let Some(late) = late {
                return Err(LedgerError::Broken(format!(
                    "two nodes served at once: {late:?} amid those of {}",
                    taken.node
                )));
            }
        }
        Ok(())
    }

    /// Every acknowledged row is in the table exactly once, and nothing that was never sent.
    pub fn compare(&self) -> Result<(usize, usize)> {
        let numbers =
            || -> BTreeSet<_> { self.ledger().since(0).iter().map(|ack| ack.n).collect() };
        let acknowledged = numbers();
        let rows = self.options.database.rows(self, &self.active()?)?;
        judge(&acknowledged, &rows, self.ledger().tried()).map_err(LedgerError::Broken)?;
        // What was under way has been acknowledged meanwhile.
        std::thread::sleep(Duration::from_millis(600));
        let later = numbers();
        let unacknowledged = rows.iter().filter(|n| !later.contains(n)).count();
        Ok((acknowledged.len(), unacknowledged))
    }

    /// Looks the database through with its own means.
    pub fn check(&self) -> Result<()> {
        self.options.database.check(self, &self.active()?)
    }

    /// Compares both copies block by block, beside the running database.
    pub fn verify(&self) -> Result<()> {
        let active = self.active()?;
        self.hotpair(&active, &["mirror", "verify", "db/data"])
            .map(|_| ())
            .map_err(|e| LedgerError::Broken(format!("the copies differ: {e}")))
    }
}

/// Compares a ledger with a table; what is wrong.
fn judge(
    acknowledged: &BTreeSet<u64>,
    rows: &[u64],
    tried: u64,
) -> std::result::Result<(), String> {
    let present: BTreeSet<_> = rows.iter().copied().collect();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|n| !present.contains(n))
        .collect();
    let strange: Vec<_> = rows.iter().filter(|&&n| n == 0 || n > tried).collect();
    let some = |all: &[&u64]| format!("{:?}", &all[..all.len().min(20)]);
    match (lost.len(), rows.len() - present.len(), strange.len()) {
        (0, 0, 0) => Ok(()),
        (lost_count @ 1.., _, _) => Err(format!(
            "{lost_count} acknowledged commits are lost: {}",
            some(&lost)
        )),
        (_, twice @ 1.., _) => Err(format!("{twice} rows are in the table twice")),
        (_, _, count) => Err(format!("{count} rows were never sent: {}", some(&strange))),
    }
}

fn other(node: &str) -> &'static str {
    match node == NODES[0] {
        true => NODES[1],
        false => NODES[0],
    }
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn wall_us() -> i128 {
    jiff::Timestamp::now().as_nanosecond() / 1000
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn lost_doubled_and_invented_rows_are_found() {
        let ledger = [1, 3].into();
        let told = |rows| judge(&ledger, rows, 4).map_or_else(|e| e, |()| String::new());
        assert_eq!(told(&[3, 1, 2]), "", "the answer about 2 was lost");
        assert_eq!(told(&[1, 2]), "1 acknowledged commits are lost: [3]");
        assert_eq!(told(&[1, 3, 1]), "1 rows are in the table twice");
        assert_eq!(told(&[1, 3, 5]), "1 rows were never sent: [5]");
    }
}
