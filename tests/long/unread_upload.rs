//! A Server that reads only the beginning of a large upload.

use crate::support::secs;
use crate::support::server::{FakeServer, Fault, Match, Status};
use crate::support::tally;

#[test]
fn an_upload_that_is_not_read_is_sent_again() {
    let server = FakeServer::start();
    let fault = server.fault(Match::path("upload").times(1), Fault::StallBody(100_000));
    let agent = tally::agent(&server).build();
    // More than the system's socket buffers hold.
    let id = server.submit(tally::waiting_task("head -c 30000000 /dev/zero > output/result"));
    tally::release(&agent, &id);
    let mut running = agent.start();
    let task = server.wait_for(&id, Status::Completed, secs(240));
    assert_eq!(server.fault_hits(fault), 1);
    let uploads = server.requests_to("upload");
    assert_eq!(uploads.len(), 2, "{uploads:#?}");
    let pause = uploads[1].at - uploads[0].at;
    println!("it was sent again after {pause:.1?}");
    // The limit is 45 s without progress, and the system's buffers accept some bytes later.
    assert!((secs(45)..secs(200)).contains(&pause), "sent again after {pause:?}");
    assert_eq!(server.output(&id, "output/result").bytes.len(), 30_000_000);
    assert_eq!((tally::times_begun(&agent, &id), task.completed_count), (1, 1));
    let gap = server.longest_heartbeat_gap();
    assert!(gap < secs(25), "the longest time between two heartbeats was {gap:?}");
    running.wait_log("`output/result`: ", secs(20));
}
