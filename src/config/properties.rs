use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::edit::TEMPLATE;
use super::{Config, ConfigError, docker_args};
use crate::arbitrary::{changed, text};

proptest! {
    #[test]
    fn configurations_of_any_text_load_or_report_places(text in prop_oneof![any::<String>(), changed(TEMPLATE)]) {
        match Config::parse(Path::new("/etc/agent/config.toml"), &text) {
            Ok(config) => {
                prop_assert!(config.executor.capacity >= 1 && config.paths.data_dir.is_absolute());
                prop_assert!(config.server.base_url.starts_with("http"));
            }
            Err(ConfigError::Wrong(problems)) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(problem.to_string().starts_with("/etc/agent/config.toml"), "{problem}");
                }
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn docker_args_of_any_words_are_refused_or_single_flags(
        words in vec(prop_oneof![text(), "--?[a-z-]{0,12}(=[a-z:/]{0,12})?", "--(init|rm|volume|env)(=/?[a-z/:]{0,9})?"], 0..4)
    ) {
        if let Ok(read) = docker_args::read(words.clone()) {
            prop_assert_eq!(&read.args, &words);
            for word in &words {
                let is_switch = docker_args::SWITCHES.iter().any(|name| *word == format!("--{name}"));
                prop_assert!(word.starts_with("--") && (is_switch || word.contains('=')), "{word:?}");
                prop_assert!(!word.starts_with("--rm") && !word.contains('\0'), "{word:?}");
            }
        }
    }
}
