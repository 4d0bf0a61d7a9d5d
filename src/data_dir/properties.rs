use std::io::{Seek, Write};

use proptest::prelude::*;

use super::holder::read_living_holder;
use crate::arbitrary::changed_bytes;

proptest! {
    #[test]
    fn a_lock_file_of_any_bytes_names_no_other_process(bytes in changed_bytes("1 0\nrun\n4294967295 5\ndiscard\n")) {
        let mut file = tempfile::tempfile().expect("make a file");
        file.write_all(&bytes).expect("write it");
        file.rewind().expect("go to its begin");
        // No process has such a start time but one that doesn't exist.
        if let Some(holder) = read_living_holder(&mut file) {
            prop_assert!(holder.pid.is_some());
        }
    }
}
