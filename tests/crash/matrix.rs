//! Every case of the matrix, some at a time.

use crate::case::Case;
use crate::cases;
use crate::scene;
use crate::support::docker;
use std::any::Any;
use std::collections::HashSet;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// The number of cases that run at the same time. They mostly wait.
const AT_ONCE: usize = 8;

/// This variable selects the cases whose name contains its text.
const ONLY: &str = "AGENT_CORE_CRASH_CASES";

#[test]
fn every_step_survives_sigkill() {
    docker::test_image();
    let cases = chosen();
    let total = cases.len();
    // A case that takes minutes has its own thread.
    let (slow, quick): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(Case::takes_minutes);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for case in &slow {
            scope.spawn(|| play(case, &failures));
        }
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = quick.get(next.fetch_add(1, Ordering::SeqCst)) {
                    play(case, &failures);
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with this lock");
    assert!(failures.is_empty(), "{} of {total} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_case_is_listed_once() {
    let cases = cases::all();
    let names: HashSet<String> = cases.iter().map(Case::to_string).collect();
    assert_eq!(names.len(), cases.len());
    println!("{} cases", names.len());
}

fn chosen() -> Vec<Case> {
    let mut cases = cases::all();
    if let Ok(part) = env::var(ONLY) {
        cases.retain(|case| case.to_string().contains(&part));
        assert!(!cases.is_empty(), "no case has {part:?} in its name");
    }
    cases
}

fn play(case: &Case, failures: &Mutex<Vec<String>>) {
    let began = Instant::now();
    // A failing case prints the reports of its Server and its agent when they are dropped.
    let played = catch_unwind(AssertUnwindSafe(|| scene::play(case)));
    let took = began.elapsed().as_secs_f64();
    match played {
        Ok(()) => println!("ok     {took:5.1} s  {case}"),
        Err(panic) => {
            println!("FAILED {took:5.1} s  {case}");
            let mut failures = failures.lock().expect("no thread panics with this lock");
            failures.push(format!("{case}\n    {}", text(panic.as_ref())));
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no panic message")
}
