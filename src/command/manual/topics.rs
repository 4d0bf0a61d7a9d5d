//! The manual's pages. They are embedded in the program, since agents run on machines without a browser.

/// One page.
pub struct Topic {
    /// The word by which `man` and `help` know it.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub summary: &'static str,
    /// The page, in Markdown.
    pub markdown: &'static str,
}

macro_rules! topic {
    ($name:literal, $summary:literal) => {
        Topic { name: $name, summary: $summary, markdown: include_str!(concat!("../../manual/", $name, ".md")) }
    };
}

/// All of them, in the order in which they are listed.
pub const TOPICS: [Topic; 9] = [
    topic!("config", "every key of config.toml, isolation and secrets"),
    topic!("operate", "start, stop, status, single tasks, log, metrics, data directory"),
    topic!("check", "what check tries"),
    topic!("try", "one task without a Server"),
    topic!("ledger", "what came to this machine and what left it"),
    topic!("security", "what is protected, and what is yours to decide"),
    topic!("troubleshooting", "messages, and what to do"),
    topic!("protocol", "the calls to the Server, and what an image may rely on"),
    topic!("promises", "what holds in every kind of trouble, with its tests"),
];

#[cfg(test)]
mod tests {
    use super::TOPICS;

    #[test]
    fn pages_begin_with_a_title_and_fit_a_terminal() {
        for topic in TOPICS {
            let mut lines = topic.markdown.lines();
            assert!(lines.next().is_some_and(|line| line.starts_with("# ")), "{}", topic.name);
            assert!(topic.markdown.contains("\n\nThis page "), "{} says what it is for", topic.name);
            let mut is_code = false;
            for (number, line) in topic.markdown.lines().enumerate() {
                is_code ^= line.starts_with("```");
                let width = line.chars().count();
                assert!(is_code || width <= 100, "{}.md:{} has {width} columns", topic.name, number + 1);
            }
        }
    }

    /// The converter to roff knows no other Markdown, and rustdoc takes a code block without a language for Rust.
    #[test]
    fn pages_keep_to_simple_markdown() {
        for topic in TOPICS {
            let mut is_code = false;
            for line in topic.markdown.lines() {
                if let Some(language) = line.strip_prefix("```") {
                    is_code = !is_code;
                    assert_eq!(is_code, !language.is_empty(), "{}: {line}", topic.name);
                    continue;
                }
                let is_other =
                    [">", "* ", "+ ", "<", "####", "    ", "---", "!["].iter().any(|mark| line.starts_with(mark));
                assert!(is_code || !is_other, "{}: {line}", topic.name);
                assert!(is_code || line.matches('`').count() % 2 == 0, "{}: {line}", topic.name);
            }
        }
    }
}
