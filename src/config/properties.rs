use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::edit::TEMPLATE;
use super::{Config, ConfigError, Exclude, PathKind, clean_base_url, csv, docker_args};
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
                let name = word.split('=').next().unwrap_or_default();
                prop_assert!(!["--rm", "--rmi", "--name"].contains(&name) && !word.contains('\0'), "{word:?}");
            }
        }
    }

    #[test]
    fn lines_of_csv_are_read_as_they_were_written(fields in vec(text(), 1..5), line in any::<String>()) {
        let written = csv::line(fields.iter().map(String::as_str));
        let has_break = written.contains(['\n', '\r']);
        let is_empty = written.is_empty();
        prop_assert_eq!(csv::fields(&written), (!has_break && !is_empty).then_some(fields));
        csv::fields(&line);
    }

    #[test]
    fn patterns_of_any_text_match_or_are_refused(patterns in vec(text(), 0..5), path in text()) {
        if let Ok(exclude) = Exclude::new(&patterns) {
            exclude.pattern_for(Path::new(&path), PathKind::File);
            exclude.holds_above(Path::new(&path));
        }
    }

    #[test]
    fn addresses_of_any_text_are_refused_or_clean(written in prop_oneof![text(), changed("https://[::1]:8443/x/")]) {
        if let Ok(url) = clean_base_url(&written) {
            prop_assert!(url.starts_with("http") && !url.ends_with('/') && !url.contains([' ', '\n', '#', '?']), "{url}");
            let uri = url.parse::<ureq::http::Uri>();
            prop_assert!(uri.is_ok_and(|uri| !uri.authority().is_some_and(|it| it.as_str().contains('@'))), "{url}");
            prop_assert_eq!(clean_base_url(&url), Ok(url.clone()));
        }
    }
}
