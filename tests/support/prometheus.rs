//! A strict parser of Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::BTreeMap;

/// Samples by name and labels, such as `tasks_total{outcome="failed"}`.
pub type Samples = BTreeMap<String, f64>;

/// Reads the whole text, or fails the test with the line that breaks a rule.
pub fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has an end");
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut helped, mut current) = (None, "");
    let mut samples = Samples::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help in {line}"));
            assert!(is_name(name) && !help.is_empty() && !kinds.contains_key(name), "{line}");
            helped = Some(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type in {line}"));
            assert_eq!(helped, Some(name), "HELP comes right before TYPE: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "counters end in _total: {line}");
            assert!(kinds.insert(name, kind).is_none(), "twice: {line}");
            current = name;
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line}"));
            let name = series.split('{').next().expect("a first part");
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|family| kinds.get(family) == Some(&"histogram")).unwrap_or(name);
            assert_eq!(family, current, "samples stand below their TYPE, together: {line}");
            assert!(is_name(name), "{line}");
            check_labels(&series[name.len()..], line);
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number in {line}"));
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    kinds.iter().filter(|(_, kind)| **kind == "histogram").for_each(|(name, _)| check_histogram(name, &samples));
    samples
}

fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_labels(labels: &str, line: &str) {
    if labels.is_empty() {
        return;
    }
    let inner = labels.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_else(|| panic!("{line}"));
    for label in inner.split(',') {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
    }
}

/// Checks that buckets don't decrease and that the last equals the count.
fn check_histogram(name: &str, samples: &Samples) {
    let counts = samples
        .iter()
        .filter_map(|(series, count)| Some((series.strip_prefix(&format!("{name}_count"))?.to_owned(), *count)));
    for (labels, count) in counts {
        let prefix = format!("{name}_bucket{},le=\"", labels.trim_end_matches('}'));
        let mut buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter_map(|(series, value)| {
                let bound = series.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") }, *value))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.len() > 1 && buckets.is_sorted_by(|one, other| one.1 <= other.1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}{labels}");
        assert!(samples.contains_key(&format!("{name}_sum{labels}")), "{name}{labels}");
    }
}
