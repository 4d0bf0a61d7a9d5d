//! The program in the container: the four executor types and their settings.

use crate::support::agent::Agent;
use crate::support::docker::{container_name, docker, wait_container_state};
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};
use serde_json::json;

/// Prints the interpreter, the script's path and the working directory.
const JOB: &str = "echo \"$RUN_BY $0 $# $PWD\"\n";

/// Runs a task without a script, with this configuration and the file `job` beside it.
fn run_job(config: &str, job: &str) -> Task {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(config).build();
    agent.write(job, JOB);
    let id = server.submit(TaskSpec::new("x"));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60))
}

#[test]
fn standard_runs_the_images_own_entrypoint() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nexecutor_type = 'standard'").build();
    let id = server.submit(TaskSpec::new("x").input("data.csv", "1,2"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    // The entrypoint of the test image copies the inputs.
    assert_eq!(task.output["files"], json!(["output/result.txt", "output/data.csv"]));
    assert_eq!(task.stdout(), "copied 1 inputs\n");
}

#[test]
fn bash_runs_the_script_from_a_mounted_file() {
    let config = "[executor]\nexecutor_type = 'bash'\nscript_path = '/opt/job.sh'\n\
        [[paths.mounts]]\nhost = './job.sh'\ncontainer = '/opt/job.sh'\nreadonly = true";
    assert_eq!(run_job(config, "job.sh").stdout(), "bash /opt/job.sh 0 /workspace\n");
}

#[test]
fn python_runs_the_script_from_a_mounted_file() {
    let config = "[executor]\nexecutor_type = 'python'\nscript_path = '/opt/job.py'\n\
        [[paths.mounts]]\nhost = './job.py'\ncontainer = '/opt/job.py'\nreadonly = true";
    assert_eq!(run_job(config, "job.py").stdout(), "python /opt/job.py 0 /workspace\n");
}

#[test]
fn the_default_script_is_run_sh_or_run_py_in_the_working_dir() {
    for (executor_type, script) in [("bash", "run.sh"), ("python", "run.py")] {
        let config = format!(
            "[executor]\nexecutor_type = '{executor_type}'\nworking_dir = '/opt/work/'\n\
             [[paths.mounts]]\nhost = './work'\ncontainer = '/opt/work'"
        );
        let task = run_job(&config, &format!("work/{script}"));
        assert_eq!(task.stdout(), format!("{executor_type} /opt/work/{script} 0 /opt/work\n"));
    }
}

#[test]
fn custom_passes_all_arguments_unchanged() {
    let words = ["", "two words", "it's", "\"quoted\"", "$HOME `id` \\n %s", "two\nlines\n", "*", "-n", "ü 数", "\t"];
    let config = format!(
        "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = {}\ncustom_args = {}",
        json!(["/bin/sh", "-c", "printf '%s|' \"$@\"", "name", "still the entrypoint's"]),
        json!(words)
    );
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config(&config).build();
    let id = server.submit(TaskSpec::new("x"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), format!("still the entrypoint's|{}|", words.join("|")));
}

#[test]
fn the_container_starts_in_the_configured_working_dir() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nworking_dir = '/tmp/else where'").build();
    let id = server.submit(TaskSpec::script("pwd; pwd > /workspace/output/pwd"));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(task.stdout(), "/tmp/else where\n");
    assert_eq!(server.output(&id, "output/pwd").text(), "/tmp/else where\n");
}

#[test]
fn the_memory_limit_is_set_on_the_container() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().config("[executor]\nmemory_limit = '64m'").build();
    let id = server.submit(TaskSpec::script("until [ -e /workspace/go ]; do sleep 0.1; done"));
    let _running = agent.start();
    wait_container_state(&id, "running", secs(60));
    let limit = docker(&["inspect", "--format", "{{.HostConfig.Memory}}", &container_name(&id)]);
    assert_eq!(limit, (64 * 1024 * 1024).to_string());
    std::fs::write(agent.workspace(&id).join("go"), "").unwrap();
    server.wait_for(&id, Status::Completed, secs(60));
}
