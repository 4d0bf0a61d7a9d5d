//! Whether containers would find the program and the script that they are to run.

use std::path::{Path, PathBuf};

use super::probe::EngineProbe;
use super::report::{Check, Report};
use crate::command::check_script::check_script;
use crate::config::{Program, ScriptSource};
use crate::docker::DockerError;

/// Checks the program, then the script. `container` is one of the executor image, and `beside` a folder among the
/// workspaces.
pub fn check_program(probe: &EngineProbe<'_>, container: Option<&str>, beside: &Path, report: &mut Report) {
    if let Err(wrong) = check_script(probe.config) {
        return fail_script(wrong, report);
    }
    match probe.find_hiding(beside) {
        Ok(None) => {}
        Ok(Some(hiding)) => {
            let wrong = hiding.describe(&probe.config.executor.image);
            return report.fail(Check::Program, wrong, "no task is started with this image");
        }
        Err(error) => return fail_image(&error, report),
    }
    let word = match &probe.config.executor.program {
        Program::Standard => return check_own_program(probe, report),
        Program::Bash(_) => Some("bash"),
        Program::Python(_) => Some("python"),
        Program::Custom(words) => words.first().map(String::as_str),
    };
    if let (Some(word), Some(container)) = (word, container) {
        match has_program(probe, container, word) {
            Ok(true) => {}
            Ok(false) => {
                let detail = format!("the image `{}` has no program `{word}` in its PATH", probe.config.executor.image);
                return report.fail(
                    Check::Program,
                    detail,
                    "put it into the image, or set another `executor.executor_type`",
                );
            }
            Err(error) => return fail_image(&error, report),
        }
    }
    let found = match (&probe.config.executor.program, probe.config.script_source()) {
        (Program::Custom(words), _) => format!("`{}` (`executor.custom_entrypoint`)", words.join(" ")),
        (_, Some(ScriptSource::Image(path))) => return check_script_in_image(probe, container, &path, report),
        (_, Some(ScriptSource::Mount(file))) => format!("the script is `{}` of this machine", file.display()),
        (_, Some(ScriptSource::Input)) => "the script is to come with each task".to_owned(),
        _ => "the script is to come with `executor.docker_args`".to_owned(),
    };
    report.pass(Check::Program, found);
}

pub fn fail_script(wrong: String, report: &mut Report) {
    report.fail(Check::Program, wrong, "every task would fail; bring the script to a place that containers see");
}

fn fail_image(error: &DockerError, report: &mut Report) {
    report.fail(Check::Program, error.to_string(), "see what is wrong with the image");
}

fn check_own_program(probe: &EngineProbe<'_>, report: &mut Report) {
    let image = &probe.config.executor.image;
    match probe.docker.image_program(image) {
        Ok(words) if words.is_empty() => report.fail(
            Check::Program,
            format!("the image `{image}` has neither ENTRYPOINT nor CMD"),
            "add one to the image, or set `executor.executor_type` to \"custom\" with `custom_entrypoint`",
        ),
        Ok(_) => report.pass(Check::Program, "the image's own ENTRYPOINT and CMD"),
        Err(error) => fail_image(&error, report),
    }
}

fn check_script_in_image(probe: &EngineProbe<'_>, container: Option<&str>, path: &str, report: &mut Report) {
    let Some(container) = container else {
        return report.skip(Check::Program, "there is no container to look into");
    };
    let image = &probe.config.executor.image;
    match probe.docker.inspect_path(container, Path::new(path)) {
        Ok(seen) if !seen.is_dir => report.pass(Check::Program, format!("the image has `{path}`")),
        Ok(_) => report.fail(
            Check::Program,
            format!("`{path}` (`executor.script_path`) is a folder in the image `{image}`"),
            "name the script",
        ),
        Err(error) => report.fail(
            Check::Program,
            format!("the image `{image}` has no script `{path}` (`executor.script_path`): {error}"),
            "put it into the image, or mount it with `[[paths.mounts]]`",
        ),
    }
}

/// Whether a container of the image would find this program. A mounted program isn't looked for in the image.
fn has_program(probe: &EngineProbe<'_>, container: &str, word: &str) -> Result<bool, DockerError> {
    let places: Vec<PathBuf> = match word.strip_prefix('/') {
        Some(_) if may_be_mounted(probe, word) => return Ok(true),
        Some(_) => vec![PathBuf::from(word)],
        // Relative to a folder that the workspace's mount may hide.
        None if word.contains('/') => return Ok(true),
        None => {
            let path = probe.docker.image_path(&probe.config.executor.image)?;
            path.into_iter().map(|folder| folder.join(word)).collect()
        }
    };
    for place in places {
        match probe.docker.inspect_path(container, &place) {
            Ok(_) => return Ok(true),
            Err(DockerError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn may_be_mounted(probe: &EngineProbe<'_>, path: &str) -> bool {
    !probe.config.executor.options.docker_args.sources.is_empty()
        || probe.config.paths.mounts.iter().any(|mount| Path::new(path).starts_with(&mount.container))
}
