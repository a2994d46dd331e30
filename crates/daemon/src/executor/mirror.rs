//! A mirror of this node as a resource: opened and closed by its process.

use super::slot::{Completion, Key, Slot};
use super::{KILL_LIMIT, Shared};
use crate::mirrors::Mirrors;
use hotpair_core::config::Resource;
use hotpair_core::group::ResourceAction;
use hotpair_core::ids::Epoch;
use hotpair_volume::protocol::Work;

impl Shared {
    fn mirrors(&self) -> Result<&Mirrors, String> {
        self.settings
            .mirrors
            .as_ref()
            .ok_or_else(|| "mirrors are not looked after here".to_owned())
    }

    pub(super) fn start_mirror(
        &self,
        slot: &Slot,
        completion: &Completion,
        action: &ResourceAction,
        resource: &Resource,
    ) -> Result<(), String> {
        let mirrors = self.mirrors()?;
        self.write_record(&slot.key, &self.record_of(action.epoch, resource))?;
        if slot.overtaken(completion.ticket) {
            return Err("it was killed meanwhile".into());
        }
        let epoch = action.epoch;
        let opened = mirrors.work(&slot.key, Work::Open { epoch }, resource.start_timeout);
        if opened.is_err() || slot.overtaken(completion.ticket) {
            // Half an opening must not be left.
            let _ = mirrors.abort(&slot.key, KILL_LIMIT);
        }
        opened
    }

    pub(super) fn stop_mirror(&self, slot: &Slot, resource: &Resource) -> Result<(), String> {
        self.mirrors()?
            .work(&slot.key, Work::Close, resource.stop_timeout)?;
        self.forget_record(&slot.key);
        Ok(())
    }

    pub(super) fn kill_mirror(&self, slot: &Slot) -> Result<(), String> {
        self.mirrors()?.abort(&slot.key, KILL_LIMIT)?;
        self.forget_record(&slot.key);
        Ok(())
    }

    /// Is the device that an earlier daemon had opened in this epoch still open?
    pub(super) fn adopt_mirror(&self, key: &Key, epoch: Epoch) -> bool {
        self.mirrors()
            .is_ok_and(|mirrors| mirrors.adopt(key) == Some(epoch))
    }

    pub(super) fn mirror_problems(&self, key: &Key) -> Vec<String> {
        use hotpair_core::mirror::Disk;
        let report = self
            .settings
            .mirrors
            .as_ref()
            .and_then(|mirrors| mirrors.report(key));
        match report.map(|report| report.disk) {
            Some(Disk::Failed(problem)) => vec![problem],
            _ => Vec::new(),
        }
    }
}
