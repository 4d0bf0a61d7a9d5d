//! `service`: the unit file of systemd for this installation.

use std::path::{Path, absolute};

use super::failure::Failure;
use super::output::{eprint_line, print_output};
use crate::os::platform;

/// The unit file of the installation that README describes.
const UNIT: &str = include_str!("../../scripts/agent-core.service");
/// What differs elsewhere.
const PROGRAM: &str = "/usr/local/bin/agent-core";
const CONFIG: &str = "/etc/agent-core/config.toml";
const USER: &str = "User=agent-core\n";

/// Prints the unit file, and on standard error what to do with it.
pub fn service(file: &Path) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::context("the path of this program isn't known"))?;
    let file = absolute(file).map_err(Failure::with_path(file, "has no absolute path"))?;
    if !file.is_file() {
        eprint_line(format_args!("`{}` isn't there yet: make it with `init`.", file.display()));
    }
    let unit = unit(&word(&program)?, &word(&file)?, &user(&file))?;
    print_output(unit)?;
    eprint_line(
        "Write it as root to /etc/systemd/system/agent-core.service, take lines for cron out, and start it by\n  \
         systemctl daemon-reload && systemctl enable --now agent-core",
    );
    Ok(())
}

fn unit(program: &str, file: &str, user: &str) -> Result<String, Failure> {
    if user.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(Failure::new("the name of the configuration's owner can't be written in a unit file"));
    }
    let command = format!("{program} --config {file} run");
    let unit = UNIT.replace(&format!("{PROGRAM} --config {CONFIG} run"), &command);
    Ok(unit.replace(USER, &format!("User={user}\n")))
}

/// A path as a word of `ExecStart` (systemd.service(5), "Command lines").
fn word(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(|c: char| c.is_control()));
    let text = text.ok_or_else(|| Failure::new(format!("`{}` can't be written in a unit file", path.display())))?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,".contains(&byte));
    if is_plain {
        return Ok(text.to_owned());
    }
    let mut quoted = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '%' | '$' => quoted.extend([c, c]),
            _ => quoted.push(c),
        }
    }
    Ok(quoted + "\"")
}

/// The user whose configuration it is: that one runs the agent.
fn user(file: &Path) -> String {
    platform::account_of(file).unwrap_or_else(|| match platform::user() {
        root if root == "0" => "root".to_owned(),
        user => user,
    })
}

#[cfg(test)]
mod tests {
    use super::{CONFIG, PROGRAM, UNIT, unit, word};
    use std::path::Path;

    #[test]
    fn the_unit_of_the_usual_places_is_the_one_in_scripts() {
        assert_eq!(unit(PROGRAM, CONFIG, "agent-core").unwrap(), UNIT);
    }

    #[test]
    fn other_places_and_users_stand_in_the_unit() {
        let unit = unit("/opt/agent-core", "\"/srv/my lab/c.toml\"", "lab").unwrap();
        assert!(unit.contains("\nExecStart=/opt/agent-core --config \"/srv/my lab/c.toml\" run\n"), "{unit}");
        assert!(unit.contains("\nUser=lab\n") && !unit.contains("User=agent-core"), "{unit}");
        assert!(super::unit(PROGRAM, CONFIG, "a\nExecStartPre=x").is_err());
    }

    #[test]
    fn paths_are_quoted_for_systemd() {
        let quoted = |path| word(Path::new(path)).unwrap();
        assert_eq!([quoted("/a/b-c.toml"), quoted("/a b")], ["/a/b-c.toml", "\"/a b\""]);
        assert_eq!(quoted("/50%/$x/\"q\"\\"), "\"/50%%/$$x/\\\"q\\\"\\\\\"");
        assert!(word(Path::new("/a\nb")).is_err());
    }
}
