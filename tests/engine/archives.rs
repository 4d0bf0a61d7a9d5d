//! Results as an archive, for tasks with more files than clients fetch (`outputs.archive`).

use crate::support::agent::{Agent, Running};
use crate::support::ledger::{self, expect_what_left};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::process::Command;
use zip::ZipArchive;

fn start(archive: &str) -> (FakeServer, Agent, Running) {
    let server = FakeServer::start();
    let agent = Agent::builder(&server)
        .with_engine()
        .config(&format!("[outputs]\nnotes = true\narchive = '{archive}'"))
        .build();
    let running = agent.start();
    (server, agent, running)
}

/// The names of a task's results in the order of their arrival.
fn arrived(server: &FakeServer, id: &str) -> Vec<String> {
    let mut files = server.files(id);
    files.retain(|file| file.created_by == "agent");
    files.into_iter().map(|file| file.filename).collect()
}

/// What is in an archive on the Server.
fn unpacked(server: &FakeServer, id: &str, name: &str) -> BTreeMap<String, Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(server.output(id, name).bytes)).expect("an archive");
    let mut members = BTreeMap::new();
    for number in 0..archive.len() {
        let mut member = archive.by_index(number).expect("a member");
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).expect("read a member");
        assert!(members.insert(member.name().to_owned(), bytes).is_none(), "a name that is there twice");
    }
    members
}

/// What Python says of an archive, whose library is that of several clients: the names, where all checksums are right.
fn python_names(bytes: &[u8]) -> Option<Vec<String>> {
    let file = tempfile::NamedTempFile::new().expect("make a file");
    std::fs::write(file.path(), bytes).expect("write it");
    let code = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None
sys.stdout.buffer.write('\\n'.join(z.namelist()).encode())";
    // A machine without Python has no such client either.
    let output = Command::new("python3").arg("-c").arg(code).arg(file.path()).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect())
}

#[test]
fn many_files_arrive_as_one_archive_with_the_answer_behind() {
    let (server, agent, mut running) = start("many");
    let few = server.submit(TaskSpec::script("for i in $(seq 20); do echo $i > output/$i; done"));
    let script = "mkdir output/d; for i in $(seq 40); do echo $i > output/d/$i.csv; done
        echo 数据 > output/表.csv; echo yes > output/response.md; ln -s / output/link; echo top > log";
    let many = server.submit(TaskSpec::script(script));
    let task = server.wait_for(&many, Status::Completed, secs(60));
    server.wait_for(&few, Status::Completed, secs(60));
    assert_eq!(arrived(&server, &few).len(), 20, "20 files are not many");
    assert_eq!(arrived(&server, &many), ["results.zip", "not-delivered.md", "output/response.md"]);
    assert_eq!(task.output["files"], json!(["results.zip", "not-delivered.md", "output/response.md"]));
    assert_eq!(task.output["left_out"], json!([{"file": "output/link", "reason": "a symbolic link"}]));
    let members = unpacked(&server, &many, "results.zip");
    let mut expected: BTreeMap<String, Vec<u8>> =
        (1..=40).map(|number| (format!("output/d/{number}.csv"), format!("{number}\n").into_bytes())).collect();
    for (name, text) in [("output/表.csv", "数据\n"), ("output/response.md", "yes\n"), ("log", "top\n")] {
        expected.insert(name.to_owned(), text.into());
    }
    assert!(members == expected, "{:?}", members.keys());
    if let Some(names) = python_names(&server.output(&many, "results.zip").bytes) {
        let mut names = names;
        names.sort();
        assert_eq!(names, members.keys().cloned().collect::<Vec<_>>());
    }
    tally::wait_phase(&agent, &many, "settled");
    expect_what_left(&agent.data_dir(), &server, &many);
    let packed = ledger::files(&agent.data_dir(), &many, "out", "packed");
    let told: BTreeMap<String, u64> = packed
        .iter()
        .map(|line| (line["file"].as_str().unwrap().to_owned(), line["bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, expected.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect());
    assert!(packed.iter().all(|line| line["archive"] == "results.zip"));
    assert_eq!(ledger::of_kind(&agent.data_dir(), &many, "task")[0]["files_sent"], 44, "files, and the note");
    assert!(agent.run(&["ledger", "--task", &many]).stdout.contains("`log`, in `results.zip`"));
    assert!(running.terminate(secs(10)).success());
    assert!(!agent.task_file(&many, "archives").exists(), "what is on the Server isn't kept here");
}

#[test]
fn an_archive_that_is_refused_is_sent_file_by_file() {
    let (server, agent, _running) = start("always");
    server.fault(Match::path("upload").file("results.zip"), Fault::status(413));
    let script = "echo 1 > output/a; echo 2 > output/b; echo yes > output/response.md";
    let id = server.submit(TaskSpec::script(script));
    let task = server.wait_for(&id, Status::Completed, secs(60));
    assert_eq!(arrived(&server, &id), ["output/b", "output/a", "output/response.md"]);
    assert_eq!(task.output["files"], json!(["output/b", "output/a", "output/response.md"]));
    assert_eq!(task.output["left_out"], json!(null), "nothing is missing there");
    tally::wait_phase(&agent, &id, "settled");
    expect_what_left(&agent.data_dir(), &server, &id);
    assert_eq!(ledger::of_kind(&agent.data_dir(), &id, "task")[0]["files_left_out"], 0);
    assert_eq!(agent.record(&id)["kept_back"], false);
}

/// Each file arrives once, in an archive that any file system can unpack, or by itself.
#[test]
fn hostile_names_harm_no_archive() {
    let (server, agent, _running) = start("always");
    let script = r#"cd /workspace/output
        echo own > ../results.zip; echo 1 > a; echo 2 > A; echo 3 > 'q"b\c'; echo 4 > "$(printf 'x\001\ny')"
        echo 5 > "$(printf 'caf\303\251')"; echo 6 > "$(printf 'cafe\314\201')"; echo 7 > ..x; mkdir C:; echo 8 > C:/d
        echo 9 > "$(printf '\377%.0s' $(seq 200))"; echo 10 > .hidden; ln -s /etc/passwd link; mkfifo pipe"#;
    let id = server.submit(TaskSpec::script(script));
    server.wait_for(&id, Status::Completed, secs(60));
    let alone = arrived(&server, &id);
    let own = unpacked(&server, &id, "results-2.zip");
    let text = |name: &str| own.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let expected = [
        ("results.zip", "own\n"),
        ("output/A", "2\n"),
        ("output/q%22b%5Cc", "3\n"),
        ("output/x%01%0Ay", "4\n"),
        ("output/cafe\u{301}", "6\n"),
        ("output/..x", "7\n"),
        ("output/C:/d", "8\n"),
        ("output/.hidden", "10\n"),
    ];
    for (name, content) in expected {
        assert_eq!(text(name).as_deref(), Some(content), "{name} in {:?}", own.keys());
    }
    assert_eq!(own.len(), expected.len(), "{:?}", own.keys());
    let long = format!("output/{}", "%FF".repeat(200));
    let expected = ["not-delivered.md", "output/a", "output/caf\u{e9}", &long, "results-2.zip"];
    assert_eq!(alone.len(), expected.len());
    assert_eq!(alone.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(expected));
    assert_eq!(server.output(&id, "output/a").text(), "1\n");
    tally::wait_phase(&agent, &id, "settled");
    expect_what_left(&agent.data_dir(), &server, &id);
}

#[test]
fn a_trial_shows_what_would_be_in_the_archive() {
    let server = FakeServer::start();
    let config = "[outputs]\narchive = 'always'";
    let agent = Agent::builder(&server).with_engine().unregistered().config(config).build();
    agent.write("run.sh", "echo 1 > output/a; echo yes > output/response.md");
    let out = agent.path("out");
    let tried = agent.run(&["try", "--prompt", "p", "--input", "run.sh", "--out", out.to_str().expect("UTF-8")]);
    tried.expect_code(0);
    let lines = [
        "  results.zip  ",
        "    output/response.md  4 bytes",
        "    output/a  2 bytes",
        "  output/response.md  4 bytes",
    ];
    let mut rest = tried.stderr.as_str();
    for line in lines {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("no {line:?} in {}", tried.stderr)).1;
    }
    let mut archive = ZipArchive::new(std::fs::File::open(out.join("results.zip")).expect("open it")).expect("a zip");
    assert_eq!(archive.len(), 2);
    let mut text = String::new();
    archive.by_name("output/a").expect("a member").read_to_string(&mut text).expect("read it");
    assert_eq!(text, "1\n");
    assert!(!out.join("output/a").exists() && out.join("output/response.md").exists());
}
