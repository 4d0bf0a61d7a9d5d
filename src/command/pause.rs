//! `pause` and `resume`: whether new tasks are accepted, also over restarts.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::failure::Failure;
use super::output::print_line;
use crate::cli::PauseArgs;
use crate::config::Config;
use crate::data_dir::holder::find_holder;
use crate::data_dir::pause::Pause;
use crate::data_dir::{DataDir, instance, permissions};
use crate::units::Local;

/// The longest pause with an end: a year.
const LONGEST: i64 = 366 * 86_400;
/// How long a note may be, in bytes.
const NOTE_MAX: usize = 500;

/// Writes the file that says it, in place of an earlier one.
pub fn pause(file: &Path, args: &PauseArgs) -> Result<(), Failure> {
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    config.check_data_dir_is_there()?;
    let now = Timestamp::now();
    let length = args.length.as_deref().map(parse_length).transpose().map_err(Failure::usage)?;
    let until = length.map(|length| now + length);
    let note = args.note.clone().filter(|note| !note.trim().is_empty());
    if note.as_ref().is_some_and(|note| note.len() > NOTE_MAX) {
        return Err(Failure::usage(format!("a note may have {NOTE_MAX} bytes at most")));
    }
    let pause = Pause { since: Some(now), until, by: user_name(), note };
    let folder = permissions::prepare(data_dir)?;
    pause.save(&folder).map_err(Failure::with_path(&data_dir.pause(), "can't be written"))?;
    let end = until.map_or_else(|| "until `agent-core resume`".to_owned(), |until| format!("until {}", Local(until)));
    print_line(match is_running(data_dir)? {
        true => format!("Paused: from the next second on no new task is accepted, {end}. Running tasks go on."),
        false => format!("Paused. No agent runs now; one that is started accepts no new task, {end}."),
    });
    Ok(())
}

/// Ends a pause, and takes a drain back.
pub fn resume(file: &Path) -> Result<(), Failure> {
    let (config, _) = Config::load_to_look(file)?;
    let data_dir = &config.paths.data_dir;
    config.check_data_dir_is_there()?;
    let Some(folder) = permissions::find(data_dir)? else {
        print_line("The agent wasn't paused.");
        return Ok(());
    };
    let was_paused = Pause::load(data_dir, Timestamp::now()).is_some();
    Pause::remove(&folder).map_err(Failure::with_path(&data_dir.pause(), "can't be removed"))?;
    let was_draining = instance::cancel_drain(data_dir, &folder)?;
    let running = if is_running(data_dir)? { "The agent accepts tasks again." } else { "No agent runs now." };
    print_line(match (was_paused, was_draining) {
        (true, true) => format!("The pause and the drain are over. {running}"),
        (true, false) => format!("The pause is over. {running}"),
        (false, true) => format!("The drain was taken back. {running}"),
        (false, false) => "The agent wasn't paused.".to_owned(),
    });
    Ok(())
}

fn is_running(data_dir: &DataDir) -> Result<bool, Failure> {
    let holder = find_holder(data_dir).map_err(Failure::unusable(data_dir))?;
    Ok(holder.is_some_and(|holder| holder.is_agent()))
}

/// The person behind `sudo`, or the user as the environment names it.
fn user_name() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(variable)
}

/// A length such as `2h`, `90min` or `3d`.
fn parse_length(text: &str) -> Result<SignedDuration, String> {
    let wrong =
        || format!("`{text}` is no value for `--for`: give a length such as 30min, 2h, 1d or 1w, of a year at most");
    let unit = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: i64 = text[..unit].parse().map_err(|_| wrong())?;
    let seconds = match &text[unit..] {
        "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(seconds).filter(|seconds| (1..=LONGEST).contains(seconds)).ok_or_else(wrong)?;
    Ok(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::parse_length;

    #[test]
    fn the_length_of_a_pause_has_a_unit() {
        let seconds = |text| parse_length(text).map(|length| length.as_secs());
        assert_eq!([seconds("30min"), seconds("2h"), seconds("1d")], [Ok(1800), Ok(7200), Ok(86_400)]);
        for wrong in ["", "2", "0h", "h", "2m", "-2h", "2 h", "53w", "99999999999999999999h", "9223372036854775807w"] {
            assert!(parse_length(wrong).is_err_and(|why| why.contains("--for")), "{wrong}");
        }
    }
}
