//! The `docker run` of a task's container: its arguments, and its start.

use log::Level;

use super::{TaskContainer, logs};
use crate::config::{Mount, WORKSPACE};
use crate::docker::args::RunSpec;
use crate::os::files::remove_if_exists;
use crate::os::platform;
use crate::os::process::LoggedChild;
use crate::shell::shell_line;
use crate::task::{Process, StepError, TaskHandle};
use crate::text::cut;

/// Why a start that failed on this machine is tried again.
pub const FAILED: &str = "the container can't be started";

/// How many bytes of the image's name and of the whole line the log shows, without the mark of what is left out.
const SHOWN_IMAGE: usize = 60;
const SHOWN_LINE: usize = 180;

/// Starts `docker run`. The record names the client before the client may do anything.
pub fn start(container: &TaskContainer<'_>, task: &mut TaskHandle) -> Result<LoggedChild, StepError> {
    let spec = spec(container, task);
    if spec.env_file.is_some() {
        let env = &container.config.executor.env;
        let variables = env.iter().map(|variable| (variable.name.as_str(), variable.value.expose()));
        task.files.save_env(variables).map_err(StepError::because(FAILED))?;
    }
    let docker = &container.docker.program;
    let pasteable = spec.pasteable();
    // A shell in which the line is pasted doesn't know which engine the file names.
    let host = container.docker.choice.host_of_file().map(|host| format!("DOCKER_HOST={host}"));
    let client = docker.to_string_lossy();
    let words = host.iter().flat_map(|host| ["env", host]).chain([&*client]);
    let line = shell_line(words.chain(pasteable.iter().map(String::as_str)));
    task.files.save_command(&line).map_err(StepError::because(FAILED))?;
    // `try` is for trying commands out; the agent's log is for finding what went wrong.
    let level = if container.console.is_some() { Level::Info } else { Level::Debug };
    if level == Level::Debug {
        log::info!(task:% = task.key(); "{}", summary(container, task));
    }
    log::log!(level, task:% = task.key(), command = true; "{line}");
    let [mut stdout, mut stderr] = [task.files.stdout(), task.files.stderr()].map(logs::create);
    if let Some(console) = container.console {
        stdout.echo_to(console.tee_stdout());
        stderr.echo_to(console.tee_stderr());
    }
    let args: Vec<_> = spec.executed().into_iter().map(Into::into).collect();
    let mut gated = platform::gated(container.docker.executable().as_os_str(), &args);
    container.docker.limit_search(&mut gated.0);
    let mut client = LoggedChild::spawn_gated(gated, stdout, stderr).map_err(StepError::because(FAILED))?;
    // From here on, a crash leaves a client that the next run of the agent finds and kills before it inspects anything.
    task.record.client = Some(process(&client));
    task.save()?;
    client.open().map_err(StepError::because(FAILED))?;
    Ok(client)
}

/// What is started, in a line that fits a screen, and where the whole command is.
fn summary(container: &TaskContainer<'_>, task: &TaskHandle) -> String {
    let (name, image) = (&container.name, cut(&container.config.executor.image, SHOWN_IMAGE));
    let line = format!("container {name} of {image}; its command: tasks/{}/command.sh", task.key());
    cut(&line, SHOWN_LINE).into_owned()
}

/// A client as the record names it.
pub fn process(client: &LoggedChild) -> Process {
    Process { id: client.id(), started: platform::start_time(client.id()), left_at: None }
}

/// Removes the file of the container's id.
pub fn remove_cid(task: &TaskHandle) -> Result<(), StepError> {
    let cid = task.files.cid();
    remove_if_exists(&cid).map_err(StepError::because(format!("`{}` can't be removed", cid.display())))
}

fn spec<'c>(container: &TaskContainer<'c>, task: &TaskHandle) -> RunSpec<'c> {
    let executor = &container.config.executor;
    let (host, target) = (task.workspace.dir().to_owned(), WORKSPACE.to_owned());
    let mut mounts = vec![Mount { host, relative: false, container: target, readonly: false }];
    mounts.extend(container.config.paths.mounts.iter().cloned());
    let timeout = executor.timeout().map_or(0, |limit| limit.as_secs());
    // Of what the Server sends, only the checked key of the task's id stands in the command.
    let key = task.key().as_str().to_owned();
    RunSpec {
        executor,
        name: container.name.clone(),
        cidfile: Some(task.files.cid()),
        labels: container.labels(task),
        mounts,
        env: vec![("TASK_ID", key), ("TIMEOUT", timeout.to_string())],
        env_file: (!executor.env.is_empty()).then(|| task.files.env()),
    }
}
