use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{BoundedLog, Otherwise, read_tail};

const HEAD: usize = 20;
const TAIL: usize = 30;

fn output() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(prop_oneof![vec(any::<u8>(), 0..25), "[a-c\n]{0,25}".prop_map(String::into_bytes)], 0..8)
}

proptest! {
    #[test]
    fn both_ends_of_any_output_are_kept(chunks in output(), limit in 0..100u64) {
        let dir = tempfile::tempdir().expect("make a folder");
        let path = dir.path().join("stdout.log");
        let mut log = BoundedLog::create(path.clone(), HEAD as u64, TAIL as u64);
        chunks.iter().for_each(|chunk| log.write(chunk));
        log.finish();
        let (written, kept) = (chunks.concat(), fs::read(&path).expect("read it"));
        let is_whole = written.len() <= HEAD + TAIL / 2;
        prop_assert!(!is_whole || kept == written, "{kept:?}");
        prop_assert!(kept.starts_with(&written[..HEAD.min(written.len())]));
        prop_assert!(kept.ends_with(&written[written.len().saturating_sub(TAIL / 2)..]));
        prop_assert!(kept.len() <= HEAD + TAIL + 60, "{}", kept.len());
        let tail = read_tail(&path, limit).expect("read its end");
        // A byte that is no UTF-8 becomes three.
        prop_assert!(tail.len() as u64 <= 3 * limit);
    }

    #[test]
    fn any_replay_adds_the_engines_output_and_removes_no_beginning(
        earlier in output(), chunks in output(), same in any::<bool>(), appends in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().expect("make a folder");
        let path = dir.path().join("stdout.log");
        fs::write(&path, earlier.concat()).expect("write it");
        let replayed = if same { [earlier.concat(), chunks.concat()].concat() } else { chunks.concat() };
        let otherwise = if appends { Otherwise::Append } else { Otherwise::Drop };
        for _ in 0..2 {
            let before = fs::read(&path).expect("read it");
            let mut log = BoundedLog::replay(path.clone(), HEAD as u64, TAIL as u64, otherwise);
            replayed.chunks(7).for_each(|chunk| log.write(chunk));
            log.finish();
            let kept = fs::read(&path).expect("read it");
            prop_assert!(kept.starts_with(&before[..HEAD.min(before.len())]), "{kept:?}");
            let was_there = before.windows(replayed.len().max(1)).any(|part| part == replayed) || replayed.is_empty();
            let is_there = kept.ends_with(&replayed[replayed.len().saturating_sub(TAIL / 2)..]);
            prop_assert!(was_there || is_there || !appends, "{kept:?}");
            let is_repeated = before.len() <= HEAD && before.starts_with(&replayed);
            prop_assert!(!is_repeated || kept == before, "{kept:?}");
            prop_assert!(kept.len() <= before.len().max(HEAD + TAIL + 60) + 60, "{}", kept.len());
            prop_assert_eq!(fs::read_dir(dir.path()).expect("list it").count(), 1);
        }
    }
}
