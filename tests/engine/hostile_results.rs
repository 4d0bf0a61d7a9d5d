//! The agent doesn't trust the files that a container leaves: only regular result files are delivered.

use crate::support::agent::Agent;
use crate::support::docker;
use crate::support::secs;
use crate::support::server::{FakeServer, Status, Task, TaskSpec};
use serde_json::json;
use std::collections::BTreeMap;

/// Runs a script that succeeds, with these keys in the configuration.
fn run(server: &FakeServer, config: &str, script: &str) -> (Agent, Task) {
    let agent = Agent::builder(server).with_engine().config(config).build();
    let id = server.submit(TaskSpec::script(script));
    let _running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(90));
    docker::assert_no_containers(&id);
    assert_eq!(task.completed_count, 1);
    (agent, task)
}

fn reasons(task: &Task) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let left_out = task.output["left_out"].as_array().into_iter().flatten();
    left_out.map(|left| (text(&left["file"]), text(&left["reason"]))).collect()
}

/// Decodes a name that was encoded for the header.
fn unspelled(name: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (name.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match code.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => (out.push(byte), at += 3).1,
            None => (out.push(bytes[at]), at += 1).1,
        }
    }
    out
}

/// File names that break careless code.
const NAMES: [&[u8]; 14] = [
    b"a\"b",
    b"cr\r\nContent-Type: text",
    b"x\"; filename=\"y",
    b"tab\tbell\x07\x1b[31m",
    b"\xff\xfebad",
    b"-rf",
    b"--name=x",
    b" lead and trail ",
    b"100%25 %",
    b"back\\slash",
    b"\xe2\x80\xaegnp.exe",
    b"...",
    b"$(id)`id`;id|&",
    "报告.md".as_bytes(),
];

#[test]
fn hostile_file_names_arrive_in_a_reversible_encoding() {
    let server = FakeServer::start();
    let mut script = "cd /workspace/output\n".to_owned();
    for (number, name) in NAMES.iter().enumerate() {
        let octal: String = name.iter().map(|byte| format!("\\{byte:03o}")).collect();
        script.push_str(&format!("printf {number} > \"$(printf '{octal}')\"\n"));
    }
    let long = "l".repeat(255);
    script.push_str(&format!("printf long > {long}\n"));
    let (_agent, task) = run(&server, "", &script);
    let sent = server.outputs(&task.id);
    let arrived: BTreeMap<Vec<u8>, Vec<u8>> =
        sent.iter().map(|file| (unspelled(&file.filename), file.bytes.clone())).collect();
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = NAMES
        .iter()
        .enumerate()
        .map(|(number, name)| ([b"output/", *name].concat(), number.to_string().into_bytes()))
        .collect();
    expected.insert(format!("output/{long}").into_bytes(), b"long".to_vec());
    assert_eq!(arrived, expected);
    assert!(sent.iter().all(|file| !file.filename.contains(['"', '\\', '\r', '\n', '\x1b', '\x07'])));
    // Each file was sent once, in a complete request.
    assert_eq!((server.requests_to("upload").len(), server.spoiled_uploads()), (expected.len(), 0));
    assert_eq!(task.file_ids.len(), expected.len());
}

#[test]
fn a_sparse_file_of_a_terabyte_is_left_out() {
    let server = FakeServer::start();
    let (_agent, task) = run(&server, "", "cd output; truncate -s 1024G huge || exit 9; echo small > small");
    assert_eq!(task.output["files"], json!(["output/small"]));
    let reason = &reasons(&task)["output/huge"];
    assert!(reason.contains("1099511627776 bytes") && reason.contains("outputs.max_file_mb"), "{reason}");
}

#[test]
fn deep_folders_are_scanned_and_too_deep_ones_reported() {
    let server = FakeServer::start();
    let script = "cd output
        echo top > top
        (i=0; while [ $i -lt 127 ]; do mkdir d; cd d; i=$((i+1)); done; echo deep > deep; mkdir d; echo no > d/deeper) ||
            exit 9
        chain=$(printf 'e/%.0s' $(seq 1500))
        mkdir -p abyss/$chain second/$chain
        (cd abyss/$chain && mv /workspace/output/second .) || exit 9";
    let (_agent, task) = run(&server, "", script);
    let deep = format!("output/{}deep", "d/".repeat(127));
    assert_eq!(task.output["files"], json!([deep, "output/top"]));
    assert_eq!(server.output(&task.id, &deep).bytes, b"deep\n");
    let too_deep = "nested deeper than 128 folders";
    let expected = [("output/", "d", 128), ("output/abyss/", "e", 127)]
        .map(|(path, folder, times)| (path.to_owned() + &vec![folder; times].join("/"), too_deep.to_owned()));
    assert_eq!(reasons(&task), expected.into(), "only the folders at which the scan stopped are named");
}

#[test]
fn long_paths_are_left_out_with_a_reason() {
    let server = FakeServer::start();
    // No shell enters a folder with so long a path, so the chain is made in two parts.
    let script = "name=$(printf 'n%.0s' $(seq 255))
        chain() { i=$1; while [ $i -lt $2 ]; do mkdir $name; cd $name; echo $i > $i; i=$((i+1)); done; }
        mkdir second
        (cd second; chain 10 20)
        cd output
        chain 0 10
        mv /workspace/second/$name .; rmdir /workspace/second";
    let (_agent, task) = run(&server, "", script);
    // `output/` and fifteen names are 3846 bytes.
    assert_eq!(task.file_ids.len(), 15);
    let reasons = reasons(&task);
    let expected = (15..20).map(|number| format!("output/{}{number}", ("n".repeat(255) + "/").repeat(number + 1)));
    assert_eq!(reasons.keys().cloned().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert!(reasons.values().all(|reason| reason == "its path is longer than 4095 bytes"), "{reasons:?}");
}

#[test]
fn files_over_the_limit_are_counted_and_not_delivered() {
    let server = FakeServer::start();
    let script = "i=0; while [ $i -lt 20000 ]; do : > f$i; i=$((i+1)); done; echo r > output/r";
    let (agent, task) = run(&server, "[outputs]\nmax_files = 3", script);
    assert_eq!(task.output["files"], json!(["f1", "f0", "output/r"]));
    assert_eq!((reasons(&task).len(), &task.output["left_out_count"]), (100, &json!(19_998)));
    assert_eq!(agent.record(&task.id)["kept_back"], true, "the record says that files remain in the workspace");
}

#[test]
fn excluded_files_are_left_out_with_their_pattern() {
    let server = FakeServer::start();
    let script = "mkdir -p raw/deep output/logs && cd output
        for name in ../raw/a ../raw/deep/b patient.csv keep.md logs/run.log logs/kept.log notes.tmp; do
            echo \"$name\" > $name
        done
        ln -s /etc raw";
    let config = "[outputs]\nexclude = ['/raw/', '*.csv', '*.tmp', 'output/logs/*', '!kept.log']";
    let (_agent, task) = run(&server, config, script);
    assert_eq!(task.output["files"], json!(["output/logs/kept.log", "output/keep.md"]));
    let uploads = server.requests_to("upload");
    assert_eq!(uploads.len(), 2, "no other file was sent");
    let expected = [
        ("output/logs/run.log", "excluded by `output/logs/*` (`outputs.exclude`)"),
        ("output/notes.tmp", "excluded by `*.tmp` (`outputs.exclude`)"),
        ("output/patient.csv", "excluded by `*.csv` (`outputs.exclude`)"),
        ("output/raw", "a symbolic link"),
        ("raw/", "excluded by `/raw/` (`outputs.exclude`)"),
    ];
    assert_eq!(reasons(&task), expected.map(|(file, reason)| (file.to_owned(), reason.to_owned())).into());
}
