use std::io::{self, Read};

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::archive::{Archive, MAX_EXTENSION};
use super::container::parse_inspect;
use super::container::tests::EXITED;
use super::exit_events::{event_times, parse_exit_events};
use super::probe::first_entry;
use crate::arbitrary::{archive, archive_entries, changed, json, timestamp};

const EVENTS: &str = "[\"c1\",\"kill\",\"15\"]\n[\"c1\",\"die\",\"\"]\n[\"c2\",\"kill\",\"9\"]\n";

proptest! {
    #[test]
    fn inspect_output_of_any_text_parses_or_fails(
        text in prop_oneof![any::<String>(), changed(EXITED)],
        value in json(),
        time in timestamp(),
    ) {
        let timed = EXITED.replace("2026-01-02T03:04:07.750Z", &time.to_string());
        for text in [text, value.to_string(), timed] {
            let Ok(container) = parse_inspect(&text) else { continue };
            container.ran_for(Timestamp::now());
            if let Some(ended) = container.state.finished_at {
                let [soon, latest] = event_times(ended);
                prop_assert!(ended <= soon && soon <= latest);
            }
        }
    }

    #[test]
    fn events_of_any_text_are_read(text in prop_oneof![any::<String>(), changed(EVENTS)], value in json()) {
        for text in [text, value.to_string()] {
            parse_exit_events(&text, &parse_inspect(EXITED).expect("a container"));
        }
    }

    #[test]
    fn the_first_entry_of_any_archive_is_read_in_part(bytes in prop_oneof![vec(any::<u8>(), 0..2000), archive(archive_entries())]) {
        if let Ok(seen) = first_entry(&bytes[..]) {
            prop_assert!(seen.content.len() <= 4096);
        }
    }

    #[test]
    fn members_of_any_archive_take_little_memory(bytes in archive(archive_entries()), size in 0..u64::MAX >> 28, kind in 0..5usize) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(b"LKxg0"[kind]));
        header.set_size(size);
        header.set_cksum();
        let endless = bytes.chain(&header.as_bytes()[..]).chain(io::repeat(b'7')).take(64 << 20);
        let mut archive = Archive::new(endless);
        while let Ok(Some(member)) = archive.next_member() {
            let held = member.path.capacity() + member.link.map_or(0, |link| link.capacity());
            prop_assert!(held as u64 <= 4 * MAX_EXTENSION);
        }
    }
}
