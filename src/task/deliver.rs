//! In which order what a task left is sent: [`super::upload`] sends one file, this file says which is next.

use super::StepError;
use super::outputs::sending::{ANSWER, SAME_AS_ANSWER};
use super::results::Results;
use super::upload::Upload;

/// Sends the results of a task that hasn't been cancelled, and ends the delivery.
pub fn deliver(mut upload: Upload<'_>, results: &Results) -> Result<(), StepError> {
    for file in &results.files {
        upload.send(file)?;
    }
    if let Some(copy) = &results.copy {
        if upload.has(ANSWER) {
            upload.skip_equal(&copy.name, SAME_AS_ANSWER)?;
        } else {
            upload.send(copy)?;
        }
    }
    upload.finish(results.files.iter().chain(&results.copy))
}
