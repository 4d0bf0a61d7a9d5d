//! Of the results that only root can read, none is forgotten: neither below folders that can only be passed, nor by a
//! crash, nor for the sake of what matters less.

use crate::fetch::{agent, copies, left_out, run};
use crate::support::docker::{assert_no_containers, wait_until};
use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status, TaskSpec};
use crate::support::tally;
use std::fs;

#[test]
fn results_below_a_folder_that_can_only_be_passed_are_delivered() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let script =
        "mkdir -m 711 output/run; mkdir output/run/data; echo 1 > output/run/data/result.csv; echo 2 > output/b";
    let (task, log) = run(&server, &user, script);
    assert_eq!(task.output["files"], serde_json::json!(["output/run/data/result.csv", "output/b"]));
    assert_eq!((server.output(&task.id, "output/run/data/result.csv").text(), copies(&log)), ("1\n", 1));
}

#[test]
fn results_in_a_workspace_that_can_only_be_passed_are_delivered() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_files = 3");
    let script = "echo 1 > output/result.csv; mkdir aaa; for i in 1 2 3 4; do echo $i > aaa/$i; done
        chown 0:0 /workspace; chmod 711 /workspace";
    let (task, _) = run(&server, &user, script);
    assert_eq!(task.output["files"], serde_json::json!(["aaa/2", "aaa/1", "output/result.csv"]));
    let reasons = left_out(&task);
    for name in ["aaa/3", "aaa/4"] {
        assert!(reasons.iter().any(|(file, why)| file == name && why.contains("outputs.max_files")), "{reasons:?}");
    }
}

#[test]
fn a_workspace_without_output_that_is_closed_is_fetched() {
    let server = FakeServer::start();
    let user = agent(&server, "");
    let (task, _) = run(&server, &user, "rm -r output; echo 1 > a; chown 0:0 /workspace; chmod 700 /workspace");
    assert_eq!(task.output["files"], serde_json::json!(["a"]));
    assert!(left_out(&task).iter().all(|(file, _)| file == "./"), "{}", task.output);
}

/// Junk that comes first by its name, in few and in many places, and takes all bytes that are read.
#[test]
fn files_under_output_are_fetched_before_all_others() {
    for junk in [
        "mkdir aaa; i=0; while [ $i -lt 20 ]; do echo $i > aaa/$i; i=$((i+1)); done",
        "mkdir .cache; truncate -s 1000G .cache/swap.img",
        "i=0; while [ $i -lt 40 ]; do echo $i > a$i; i=$((i+1)); done; truncate -s 1000G a-hole",
    ] {
        let server = FakeServer::start();
        let user = agent(&server, "[outputs]\nmax_files = 3\nmax_total_mb = 2");
        let (task, _) = run(&server, &user, &format!("umask 077; {junk}; echo 1 > output/result.csv"));
        assert_eq!(server.output(&task.id, "output/result.csv").text(), "1\n", "{junk}");
        assert!(!left_out(&task).iter().any(|(file, _)| file.starts_with("output")), "{junk}: {}", task.output);
    }
}

#[test]
fn a_result_is_delivered_whatever_another_name_of_it_is() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nexclude = ['*.tmp']");
    let script = "umask 077; echo RESULT > output/a.tmp; ln output/a.tmp output/result.csv
        echo GIVEN > input/x; ln input/x z; mkdir deep; ln input/x deep/z";
    let (task, _) = run(&server, &user, script);
    assert_eq!(server.output(&task.id, "output/result.csv").text(), "RESULT\n");
    let reasons = left_out(&task);
    assert!(reasons.iter().any(|(file, why)| file == "output/a.tmp" && why.contains("outputs.exclude")), "{reasons:?}");
    assert!(server.outputs(&task.id).iter().all(|file| file.filename != "output/a.tmp"));
}

/// The agent is killed in the call of docker that follows the fetch.
#[test]
fn a_crash_after_a_fetch_forgets_nothing_that_is_left_out() {
    let server = FakeServer::start();
    let user = agent(&server, "[outputs]\nmax_files = 3");
    let (copied, waiting) = (user.agent.path("copied"), user.agent.path("waiting"));
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = image ] && [ -e {copied} ]; then : > {waiting}; rm {copied}; exec sleep 60; fi
        docker \"$@\"; done=$?; [ \"$1\" != cp ] || : > {copied}; exit $done\n",
        copied = copied.display(),
        waiting = waiting.display()
    );
    let script = user.agent.write_script("docker", &script);
    user.agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
    user.own_everything();
    let mut running = user.start();
    let script = "umask 077; cd output; for i in 1 2 3 4 5 6; do echo $i > $i; done; truncate -s 60M big";
    let id = server.submit(TaskSpec::script(script));
    wait_until("the end of the fetch", secs(60), || waiting.exists());
    running.kill9();
    fs::remove_file(&waiting).expect("forget that it waits");
    let running = user.start();
    let task = server.wait_for(&id, Status::Completed, secs(60));
    tally::wait_phase(&user.agent, &id, "settled");
    let mut named: Vec<String> = left_out(&task).into_iter().map(|(file, _)| file).collect();
    named.sort();
    assert_eq!((task.file_ids.len(), copies(&running.log())), (3, 0), "it isn't fetched again");
    assert_eq!(named, ["output/4", "output/5", "output/6", "output/big"]);
    assert_eq!(user.agent.record(&id)["kept_back"], true);
    assert_no_containers(&id);
}

/// As many tasks as there are workers for such results send a file a second each.
#[test]
fn many_fetched_files_of_two_tasks_keep_no_third_one_waiting() {
    let server = FakeServer::start();
    let user = agent(&server, "[executor]\ncapacity = 4");
    let _running = user.start();
    let large = [(); 2].map(|()| {
        let id = server.submit(TaskSpec::script(
            "umask 077; cd output; i=0; while [ $i -lt 150 ]; do echo $i > $i; i=$((i+1)); done",
        ));
        server.fault(Match::path("upload").task(&id), Fault::Delay(secs(1)));
        id
    });
    for id in &large {
        wait_until("its first file", secs(60), || !server.outputs(id).is_empty());
    }
    let small = server.submit(TaskSpec::script("umask 077; echo 1 > output/private"));
    server.wait_for(&small, Status::Completed, secs(90));
    for id in &large {
        assert!(server.outputs(id).len() < 120, "the small task waited for the end of a large one");
        assert_no_containers(id);
    }
    assert_no_containers(&small);
}
