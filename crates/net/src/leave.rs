//! Detaching in two steps: at once what others see, and by and by what the kernel takes its time for.

use crate::attachment::check_id;
use crate::rtnl::Links;
use crate::state::{Made, Record};
use crate::{Network, Result};

impl Network {
    /// Begins to detach a pod whose network namespace is about to end: its ports are closed, and
    /// nothing of it is put back any more. Its links go with the namespace, which takes the kernel
    /// a while that nobody has to wait for; [`teardown`](Self::teardown) then gives its addresses
    /// back. False where there is nothing to wait for: plugins want the namespace.
    ///
    /// # Errors
    /// What could not be closed; not written.
    pub fn leave(&self, id: &str) -> Result<bool> {
        check_id(id)?;
        let _lock = self.state.lock_id(id)?;
        let Some(mut record) = self.state.read(id)? else {
            return Ok(false);
        };
        let Made::Builtin(place) = record.made.clone() else {
            return Ok(false);
        };
        let whole = record.setup.take().is_some();
        self.state.write(&record)?;
        self.parts().bridge.close(&record, &place, whole)?;
        Ok(true)
    }

    /// Whether pod `id` has a link on the machine still.
    ///
    /// # Errors
    /// The kernel's.
    pub fn has_link(&self, id: &str) -> Result<bool> {
        let name = self.parts().bridge.host_link(id);
        Ok(Links::open()?.find(&name)?.is_some())
    }

    /// Detaches at once who began to [`leave`](Self::leave).
    pub(crate) fn finish_leaving(&self) -> Result<()> {
        for id in self.state.ids()? {
            // One that is being attached is locked.
            let record = self.state.read(&id).ok().flatten();
            let leaves = |r: &Record| {
                r.setup.is_none()
                    && r.owner == self.parts().config.owner
                    && matches!(r.made, Made::Builtin(_))
            };
            if record.is_some_and(|r| leaves(&r)) {
                self.collect(&id)?;
            }
        }
        Ok(())
    }
}
