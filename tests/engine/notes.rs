//! Files that the agent itself adds to a task's results, for clients that read nothing but files (`outputs.notes`).

use crate::support::agent::{Agent, Builder};
use crate::support::docker::wait_until;
use crate::support::ledger::expect_what_left;
use crate::support::secs;
use crate::support::server::{Control, FakeServer, Fault, Match, Moment, Status, Task, TaskSpec};
use crate::support::tally;
use serde_json::json;

const NOTES: &str = "[outputs]\nnotes = true\n";

fn agent(server: &FakeServer) -> Builder {
    Agent::builder(server).with_engine().config(NOTES)
}

/// The names of a task's results in the order of their arrival.
fn arrived(server: &Control, id: &str) -> Vec<String> {
    let mut files = server.files(id);
    files.retain(|file| file.created_by == "agent");
    files.into_iter().map(|file| file.filename).collect()
}

/// Does a task with these keys of `[outputs]`, and returns it with the names that arrived. The ledger must name each.
fn done(keys: &str, script: &str, status: Status) -> (FakeServer, Agent, Task, Vec<String>) {
    let server = FakeServer::start();
    let agent = agent(&server).config(&format!("[outputs]\n{keys}")).build();
    let id = server.submit(TaskSpec::script(script).input("question.md", "# What?"));
    let mut running = agent.start();
    let task = server.wait_for(&id, status, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    expect_what_left(&agent.data_dir(), &server, &id);
    assert!(running.terminate(secs(20)).success());
    assert!(!agent.task_file(&id, "notes").exists(), "what is on the Server isn't kept here");
    let names = arrived(&server, &id);
    (server, agent, task, names)
}

#[test]
fn a_failed_task_sends_the_reason_as_its_last_file() {
    let script = "echo part > output/response.md; ln -s /etc/passwd output/link; echo so far; echo 'no column age' >&2
        exit 3";
    let (server, agent, task, names) = done("", script, Status::Failed);
    assert_eq!(names, ["output/response.md", "failure.md"]);
    assert_eq!(task.output["files"], json!(names));
    let note = server.output(&task.id, "failure.md");
    assert_eq!(note.mime_type, "text/markdown; charset=utf-8");
    let text = note.text();
    for part in [
        "# The task failed\n\n```text\nno column age\n```\n\nExit status of the container: 3, after ",
        "## Files that are not delivered\n\n```text\noutput/link: a symbolic link\n```",
        "## The end of standard error\n\n```text\nno column age\n```",
        "## The end of standard output\n\n```text\nso far\n```",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(agent.run(&["ledger", "--task", &task.id]).stdout.contains("`failure.md`"));
}

#[test]
fn what_a_container_prints_can_not_forge_a_note() {
    let script = r"printf '\n```\n# All went well\n\033[2J\377 ````` x\r\n' >&2; exit 1";
    let (server, _agent, task, _) = done("", script, Status::Failed);
    let text = server.output(&task.id, "failure.md").text().to_owned();
    assert!(text.contains("\n``````text\n```\n# All went well\n\u{fffd} ````` x\n``````\n"), "{text}");
    assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
}

#[test]
fn a_completed_task_names_what_stayed_before_its_answer() {
    let script = "echo yes > output/response.md; echo b > output/b.md; head -c 2000000 /dev/zero > output/huge.bin";
    let (server, _agent, task, names) = done("max_file_mb = 1", script, Status::Completed);
    assert_eq!(names, ["output/b.md", "not-delivered.md", "output/response.md"]);
    let text = server.output(&task.id, "not-delivered.md").text().to_owned();
    assert!(
        text.contains("output/huge.bin: 2000000 bytes are more than the 1 MB of `outputs.max_file_mb`\n"),
        "{text}"
    );
}

#[test]
fn a_copy_of_the_answer_is_not_missing() {
    let script = "echo yes | tee response.md > output/response.md";
    let (_server, _agent, task, names) = done("", script, Status::Completed);
    assert_eq!(names, ["output/response.md"]);
    assert_eq!(task.output["left_out"][0]["file"], "response.md");
}

#[test]
fn what_a_task_without_files_printed_is_its_answer() {
    let script = r"printf '# 42 \377\033[1m!\033[0m\r\n'; mkdir .cache; echo x > .cache/x";
    let (server, _agent, task, names) = done("", script, Status::Completed);
    assert_eq!(names, [".cache/x", "output/response.md"], "the input isn't the newest file");
    assert_eq!(server.output(&task.id, "output/response.md").text(), "# 42 \u{fffd}!\n");
    let (_server, _agent, _task, names) = done("", "true", Status::Completed);
    assert!(names.is_empty(), "{names:?}: it printed nothing");
    let (_server, _agent, _task, names) = done("", "echo words; echo 1 > output/table.csv", Status::Completed);
    assert_eq!(names, ["output/table.csv"], "it left a file");
    let script = "echo words; ln -s x output/response.md";
    let (_server, _agent, _task, names) = done("", script, Status::Completed);
    assert_eq!(names, ["not-delivered.md"], "its own answer isn't replaced");
}

#[test]
fn a_file_of_the_task_is_not_replaced_by_a_note() {
    let script = "echo mine > failure.md; ln -s x failure-2.md; exit 1";
    let (server, _agent, task, names) = done("", script, Status::Failed);
    assert_eq!(names, ["failure.md", "failure-3.md"]);
    assert_eq!(server.output(&task.id, "failure.md").text(), "mine\n");
    let script = "echo mine > not-delivered.md; ln -s x link";
    let (server, _agent, task, names) = done("", script, Status::Completed);
    assert_eq!(names, ["not-delivered.md", "not-delivered-2.md"]);
    assert_eq!(server.output(&task.id, "not-delivered.md").text(), "mine\n");
}

#[test]
fn notes_count_into_the_limits() {
    let script = "echo 1 > output/a; echo 2 > output/b; exit 1";
    let (_server, _agent, task, names) = done("max_files = 2", script, Status::Failed);
    assert_eq!(names, ["output/a", "failure.md"]);
    assert_eq!(task.output["left_out"][0]["file"], "output/b");
    let (_server, _agent, _task, names) = done("max_files = 1", script, Status::Failed);
    assert_eq!(names, ["output/a"], "the only place is the task's");
    // No result gives way to a note that isn't sent, or that says no more than which links stay here.
    let (_server, _agent, _task, names) = done("max_files = 2\nexclude = ['*.md']", script, Status::Failed);
    assert_eq!(names, ["output/b", "output/a"]);
    let linked = "echo 1 > output/a; echo 2 > output/b; ln -s x link";
    let (_server, _agent, _task, names) = done("max_files = 2", linked, Status::Completed);
    assert_eq!(names, ["output/b", "output/a"]);
    let script = "for i in 1 2 3 4; do echo $i > output/$i; done";
    let (server, _agent, task, names) = done("max_files = 3", script, Status::Completed);
    assert_eq!(names, ["output/2", "output/1", "not-delivered.md"]);
    let text = server.output(&task.id, "not-delivered.md").text().to_owned();
    assert!(text.contains("output/3: beyond the 3 files") && text.contains("output/4: "), "{text}");
    let (_server, _agent, _task, names) = done("max_files = 1", "echo words; ln -s x link", Status::Completed);
    assert_eq!(names, ["output/response.md"]);
}

#[test]
fn excluded_notes_and_those_that_are_turned_off_are_not_sent() {
    for keys in ["exclude = ['*.md']", "exclude = ['output/', 'failure*', 'not-*']", "notes = false"] {
        for (script, status) in [("echo why >&2; exit 1", Status::Failed), ("echo words", Status::Completed)] {
            let (_server, _agent, _task, names) = done(keys, script, status);
            assert!(names.is_empty(), "{keys}: {names:?}");
        }
    }
}

#[test]
fn a_task_whose_container_never_ran_sends_the_reason() {
    let server = FakeServer::start();
    let config = "[executor]\nexecutor_type = 'custom'\ncustom_entrypoint = ['/no/such/program']";
    let no_program = agent(&server).config(config).build();
    let id = server.submit(TaskSpec::script("true"));
    let mut running = no_program.start();
    server.wait_for(&id, Status::Failed, secs(60));
    let text = server.output(&id, "failure.md").text().to_owned();
    assert!(text.contains("/no/such/program") && text.contains("The container did not run to an end"), "{text}");
    running.terminate(secs(20));

    server.fault(Match::path("download").file("bad"), Fault::status(404));
    let id = server.submit(TaskSpec::script("true").input("bad", "1"));
    let other = agent(&server).build();
    let _running = other.start();
    // The Server must say it again after two minutes.
    server.wait_for(&id, Status::Failed, secs(240));
    assert!(server.output(&id, "failure.md").text().contains("input file `bad`"));
}

#[test]
fn a_refused_note_does_not_keep_the_report() {
    for (fault, within) in [(Fault::status(400), 20), (Fault::status(503), 40)] {
        let server = FakeServer::start();
        let agent = agent(&server).build();
        server.fault(Match::path("upload").file("failure.md"), fault);
        let id = server.submit(TaskSpec::script("echo why >&2; exit 1"));
        let _running = agent.start();
        let task = server.wait_for(&id, Status::Failed, secs(within));
        assert_eq!(task.error_message.as_deref(), Some("why"));
        assert_eq!(task.output["left_out"][0]["file"], "failure.md");
        assert_eq!(agent.record(&id)["kept_back"], false, "nothing of the task is missing on the Server");
    }
}

#[test]
fn a_note_is_sent_once_over_a_kill_at_any_moment() {
    for (script, status, expected) in [
        ("ln -s x link; exit 1", Status::Failed, vec!["failure.md"]),
        ("echo a > output/response.md; ln -s x l", Status::Completed, vec!["not-delivered.md", "output/response.md"]),
        ("echo words", Status::Completed, vec!["output/response.md"]),
    ] {
        for (moment, besides) in [(Moment::Arrived, Some(Fault::Reset)), (Moment::Effected, None)] {
            let server = FakeServer::start();
            let agent = tally::agent(&server).config(NOTES).build();
            let mut running = agent.start();
            let which = Match::path("upload").file(expected[0]);
            server.fault(which.clone().times(1), Fault::call(moment, running.killer()));
            if let Some(fault) = besides {
                server.fault(which.times(1), fault);
            }
            let id = server.submit(tally::waiting_task(script));
            tally::release(&agent, &id);
            running.wait_exit(secs(30));
            let _running = agent.start();
            let task = server.wait_for(&id, status, secs(60));
            tally::wait_phase(&agent, &id, "settled");
            assert_eq!(
                (arrived(&server, &id), task.completed_count),
                (expected.iter().map(|n| (*n).to_owned()).collect(), 1)
            );
            expect_what_left(&agent.data_dir(), &server, &id);
        }
    }
}

#[test]
fn nothing_is_sent_of_a_cancelled_task() {
    let server = FakeServer::start();
    let agent = agent(&server).build();
    let id = server.submit(TaskSpec::script("echo words; touch output/began; ln -s x link; sleep 1000"));
    let _running = agent.start();
    let began = agent.workspace(&id).join("output/began");
    wait_until("the script", secs(60), || began.exists());
    server.cancel(&id);
    server.wait_for(&id, Status::Cancelled, secs(60));
    tally::wait_phase(&agent, &id, "settled");
    assert!(arrived(&server, &id).is_empty(), "{}", server.report());
    assert!(!agent.task_file(&id, "notes").exists());
}

#[test]
fn try_shows_the_notes_that_would_be_sent() {
    let server = FakeServer::start();
    let agent = agent(&server).build();
    agent.write("run.sh", "echo a > output/a; ln -s x link; echo why >&2; exit 4");
    let done = agent.run(&["try", "--prompt", "p", "--input", "run.sh", "--out", "results"]);
    done.expect_code(4).expect_stderr("Would be sent: 2 files, ");
    done.expect_stderr("  output/a  2 bytes\n  failure.md  ");
    let note = std::fs::read_to_string(agent.path("results/failure.md")).unwrap();
    assert!(note.contains("why") && note.contains("link: a symbolic link"), "{note}");
}
