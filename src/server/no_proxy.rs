//! NO_PROXY: which hosts are reached without the proxy. No document says what may stand in the variable, so that every
//! form that other programs take is understood.

use std::net::IpAddr;

/// A host and port that calls go to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'t> {
    /// A name, or an address with or without brackets.
    pub host: &'t str,
    pub port: u16,
}

/// Whether a list excepts this host. Its entries stand between commas or blanks: `*` for every host; a name, which
/// includes its subdomains, also as `.name` and `*.name`; an address; a network as `10.0.0.0/8` or `fd00::/8`; each of
/// them also with a port, before which an IPv6 address needs its brackets.
pub fn is_excepted(target: Target<'_>, list: &str) -> bool {
    let entries = list.split(|c: char| c == ',' || c == ';' || c.is_whitespace());
    entries.map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| matches(target, entry))
}

fn matches(target: Target<'_>, entry: &str) -> bool {
    // Some people write a whole address.
    let entry = entry.split_once("://").map_or(entry, |(_, rest)| rest).trim_end_matches('/');
    if entry == "*" {
        return true;
    }
    let (host, port) = split_port(entry);
    if port.is_some_and(|port| port.parse() != Ok(target.port)) {
        return false;
    }
    let host = host.trim_matches(['[', ']']);
    match address(target.host) {
        Some(address) => is_in_network(address, host),
        None => is_in_domain(target.host, host),
    }
}

/// Splits off a port. Without brackets, several colons are those of an IPv6 address.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if entry.starts_with('[') {
        return match entry.split_once(']') {
            Some((host, rest)) if rest.starts_with(':') => (host, Some(&rest[1..])),
            // A network in brackets may have its length behind them.
            _ => (entry, None),
        };
    }
    match entry.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (entry, None),
    }
}

/// An address, where one of IPv4 that is written as IPv6 is the same.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches(['[', ']']);
    // The zone of a link-local address says how it is reached.
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn is_in_network(target: IpAddr, entry: &str) -> bool {
    let entry = entry.replace(']', "");
    let Some((network, length)) = entry.split_once('/') else { return address(&entry) == Some(target) };
    let (Some(network), Ok(length)) = (address(network), length.parse::<u32>()) else { return false };
    match (target, network) {
        (IpAddr::V4(target), IpAddr::V4(network)) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            target.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(target), IpAddr::V6(network)) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            target.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

fn is_in_domain(host: &str, entry: &str) -> bool {
    let lower = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let (host, entry) = (lower(host), lower(entry));
    let domain = entry.trim_start_matches('*').trim_start_matches('.');
    if domain.is_empty() {
        return false;
    }
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::{Target, is_excepted};

    /// Hosts, and lists that except them and that don't.
    const TABLE: [(&str, &[&str], &[&str]); 7] = [
        (
            "127.0.0.1",
            &[
                "127.0.0.1",
                "127.0.0.0/8",
                "127.0.0.1:8080",
                "localhost 127.0.0.1",
                "localhost, 127.0.0.0/8 ,x",
                "*",
                "a,*",
                "0.0.0.0/0",
                "127.0.0.1/32",
                "http://127.0.0.1:8080/",
                "::ffff:127.0.0.1",
                "a;127.0.0.1",
                "\t127.0.0.1\n",
            ],
            &[
                "127.0.0.10",
                "127.0.0.1:80",
                "10.0.0.0/8",
                "127.0.0.0/33",
                "127.0.0.1/x",
                "0.0.1",
                ".1",
                "*.1",
                "",
                ", ,",
            ],
        ),
        ("10.1.2.3", &["10.0.0.0/8", "10.1.2.0/24", "10.1.2.2/31"], &["10.1.3.0/24", "10.1.2.4/30", "fd00::/8"]),
        (
            "[::1]",
            &["::1", "[::1]", "[::1]:8080", "::1/128", "[::1]/128", "[::]/0", "0:0:0:0:0:0:0:1"],
            &["::2", "[::1]:80", "127.0.0.1", "::2/127", "[::2]:8080"],
        ),
        ("[fe80::1%25eth0]", &["fe80::1", "fe80::/10"], &["fe80::2"]),
        (
            "aaas.example.org",
            &[
                "example.org",
                ".example.org",
                "*.example.org",
                "EXAMPLE.org",
                "org",
                "aaas.example.org.",
                "aaas.example.org:8080",
                " .Example.ORG:8080 ",
            ],
            &["ample.org", "badexample.org", "example.com", "aaas.example.org:443", "other.example.org", ".", "*."],
        ),
        ("AAAS.Lab.", &["aaas.lab", ".lab"], &["aaas.lab.org"]),
        ("localhost", &["localhost", "LOCALHOST:8080", "foo localhost"], &["127.0.0.1", "local", "host"]),
    ];

    #[test]
    fn no_proxy_is_understood_in_every_common_form() {
        for (host, excepted, others) in TABLE {
            let target = Target { host, port: 8080 };
            for list in excepted {
                assert!(is_excepted(target, list), "{list:?} excepts {host}");
            }
            for list in others {
                assert!(!is_excepted(target, list), "{list:?} doesn't except {host}");
            }
        }
    }
}
