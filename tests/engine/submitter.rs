//! What clients show of a task: they take the newest file where they name none, and the charset of its type.

use crate::support::agent::Agent;
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use serde_json::json;

/// The names of a task's results in the order of their arrival.
fn arrived(server: &FakeServer, id: &str) -> Vec<String> {
    let mut files = server.files(id);
    files.retain(|file| file.created_by == "agent");
    files.into_iter().map(|file| file.filename).collect()
}

#[test]
fn text_is_sent_with_its_charset_and_other_bytes_are_not_text() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    // 65535 ASCII bytes before a character of three bytes, which lies across the border of any usual buffer.
    let script = r"cd /workspace/output
        printf '# 你好 é\n' > answer.md
        head -c 65535 /dev/zero | tr '\0' a > border.txt; printf '你好' >> border.txt
        printf '\304\343\272\303' > gbk.txt
        printf '\377\376a\0b\0' > utf16.csv
        printf 'a\0b\0' > utf16-without-mark.csv
        printf 'a\344\275' > cut.log
        : > empty.txt
        printf '{}' > data.json; printf x > unknown";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    server.wait_for(&id, Status::Completed, secs(60));
    let types: Vec<_> = server.outputs(&id).into_iter().map(|file| (file.filename, file.mime_type)).collect();
    let binary = "application/octet-stream";
    let expected = [
        ("output/answer.md", "text/markdown; charset=utf-8"),
        ("output/border.txt", "text/plain; charset=utf-8"),
        ("output/cut.log", binary),
        ("output/data.json", "application/json"),
        ("output/empty.txt", "text/plain; charset=utf-8"),
        ("output/gbk.txt", binary),
        ("output/unknown", binary),
        ("output/utf16-without-mark.csv", binary),
        ("output/utf16.csv", binary),
    ];
    assert_eq!(types, expected.map(|(name, mime)| (name.to_owned(), mime.to_owned())));
    assert_eq!(server.output(&id, "output/border.txt").bytes.len(), 65535 + 6, "what was looked at is sent whole");
}

#[test]
fn the_answer_is_sent_last_and_what_is_beside_it_first() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let script = "cd /workspace; mkdir -p .cache output/repo/docs output/.git
        for file in .hidden .cache/x.md output/.git/y.md output/.z.md notes.md step1.log a.zip output/b.ZIP \
            output/data.csv output/repo/c.csv output/repo/docs/deep.md output/repo/read.md output/zz.md output/aa.md \
            response.md output/response.md; do echo $file > $file; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let expected = [
        "output/.git/y.md",
        "output/.z.md",
        ".cache/x.md",
        ".hidden",
        "output/b.ZIP",
        "a.zip",
        "step1.log",
        "notes.md",
        "output/repo/c.csv",
        "output/data.csv",
        "output/repo/docs/deep.md",
        "output/repo/read.md",
        "output/zz.md",
        "output/aa.md",
        "response.md",
        "output/response.md",
    ];
    assert_eq!(arrived(&server, &id), expected);
    assert_eq!(task.output["files"], json!(expected));
}

#[test]
fn which_files_fit_is_not_decided_by_when_they_are_sent() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).config("[outputs]\nmax_files = 2").with_engine().build();
    let script = "cd /workspace; for file in a.log output/a.csv output/response.md; do echo $file > $file; done";
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    let sent = arrived(&server, &id);
    assert!(sent.iter().any(|name| name == "output/a.csv") && sent.last().unwrap() == "output/response.md", "{sent:?}");
    assert_eq!(task.output["left_out"][0]["file"], "a.log");
}

#[test]
fn a_copy_of_the_answer_is_not_sent_beside_it() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let same = server.submit(TaskSpec::script("cd /workspace; echo yes | tee response.md > output/response.md"));
    let other = server.submit(TaskSpec::script("cd /workspace; echo yes > response.md; echo no. > output/response.md"));
    let _running = agent.start();
    let task = server.wait_for(&same, Status::Completed, secs(60));
    server.wait_for(&other, Status::Completed, secs(60));
    assert_eq!(arrived(&server, &same), ["output/response.md"]);
    let left_out = json!([{"file": "response.md", "reason": "the same as output/response.md"}]);
    assert_eq!(task.output["left_out"], left_out);
    assert_eq!(agent.record(&same)["kept_back"], false, "nothing is missing on the Server");
    assert_eq!(arrived(&server, &other), ["response.md", "output/response.md"]);
    let ledger = agent.run(&["ledger", "--task", &same]).stdout;
    assert!(ledger.contains("the same as output/response.md"), "{ledger}");
}

#[test]
fn a_copy_of_the_answer_is_sent_where_the_answer_is_refused() {
    let server = FakeServer::start();
    let agent = Agent::builder(&server).with_engine().build();
    let id = server.submit(TaskSpec::script("cd /workspace; echo yes | tee response.md > output/response.md"));
    server.fault(Match::path("upload").file("output/response.md"), Fault::status(400));
    let _running = agent.start();
    // The Server has to refuse it for two minutes.
    let task = server.wait_for(&id, Status::Completed, secs(240));
    assert_eq!(server.output(&id, "response.md").text(), "yes\n");
    assert_eq!(task.output["left_out"][0]["file"], "output/response.md");
}
