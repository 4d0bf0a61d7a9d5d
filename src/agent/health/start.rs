//! The proof that containers can be started: after a failed start no task is accepted before the image hides nothing of a
//! task's workspace and a container of the agent's own has started.

use std::time::{Duration, Instant};

use crate::docker::INSTANCE_LABEL;
use crate::task::volumes::HiddenParts;
use crate::task::{Context, ProbeFolder, StartProbe, view_name};

/// The pause after a proof that failed: the first one, doubling with each in a row, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

/// Whether such a container has to be started.
#[derive(Debug, Default)]
pub struct StartCheck {
    is_required: bool,
    /// Why the last proof failed, when the next one is due, and the pause before it.
    failed: Option<(String, Instant, Duration)>,
}

impl StartCheck {
    /// A container couldn't be started.
    pub fn require(&mut self) {
        (self.is_required, self.failed) = (true, None);
    }

    /// Why the last proof failed may be over: where one is required, it is due.
    pub fn look_anew(&mut self) {
        self.failed = None;
    }

    /// Starts a container where that is required and due. Once it has started, the workers start theirs again.
    ///
    /// # Errors
    /// Tasks have to wait, for this reason.
    pub fn check(&mut self, context: &Context) -> Result<(), String> {
        if !self.is_required {
            return Ok(());
        }
        let [first, longest] = PAUSES;
        let pause = match &self.failed {
            Some((why, due, _)) if Instant::now() < *due => return Err(why.clone()),
            Some((_, _, last)) => (*last * 2).min(longest),
            None => first,
        };
        match try_start(context) {
            Ok(()) => {
                *self = Self::default();
                context.starts.resume();
                Ok(())
            }
            Err(why) => {
                self.failed = Some((why.clone(), Instant::now() + pause, pause));
                Err(why)
            }
        }
    }
}

/// The name of the container.
pub fn probe_name(context: &Context) -> String {
    format!("open-aaas-probe-{}", context.instance_id)
}

fn try_start(context: &Context) -> Result<(), String> {
    let cannot_start = |why: String| format!("containers can't be started on this machine: {why}");
    let folder = ProbeFolder::create(&context.config().paths.data_dir)
        .map_err(|error| cannot_start(format!("its workspace can't be made: {error}")))?;
    let labels = vec![(INSTANCE_LABEL, context.instance_id.clone())];
    let (config, docker, name) = (&context.config(), &context.docker, probe_name(context));
    // No task would be started then, although a container can be.
    let (view, owner) = (view_name(&name), Some(context.instance_id.as_str()));
    let parts = HiddenParts { config, docker, name: &view, labels: labels.clone(), owner, beside: &folder.dir };
    if let Some(hiding) = parts.find().map_err(|error| cannot_start(error.to_string()))? {
        return Err(hiding.describe(&config.executor.image));
    }
    let probe = StartProbe { config, docker, name, labels, folder: &folder };
    probe.run().map(drop).map_err(|problem| cannot_start(problem.to_string()))
}
