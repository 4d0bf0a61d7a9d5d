//! Whether the script that every task runs can be there: `check` and `run` ask.

use crate::config::Config;
use crate::os::timeout::{timeout_message, with_timeout};

/// Whether a script can be there, as far as this machine knows.
pub fn check_script(config: &Config) -> Result<(), String> {
    let whole = config.clone();
    with_timeout(move || whole.check_script())
        .unwrap_or_else(|| Err(format!("the drive with the script (`executor.script_path`) {}", timeout_message())))
}
