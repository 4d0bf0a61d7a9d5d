//! Checks of single values: addresses, names and paths, as docker and the Server take them.

use std::net::Ipv6Addr;

use ureq::http::Uri;

/// Whether a text can be the id of a service: it becomes a part of paths and headers of requests. As in a plain task id,
/// there is no separator in it, and it isn't `..`, with which every call would go to another path of the Server.
pub fn is_service_id(text: &str) -> bool {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    allowed && text.len() <= 128 && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// Whether a text can be a key: it becomes a header of requests.
pub fn is_api_key(text: &str) -> bool {
    (1..=4096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Makes the Server's address out of a text that a person typed, without blanks around it and slashes at its end.
///
/// # Errors
/// What the address must be.
pub fn clean_base_url(written: &str) -> Result<String, &'static str> {
    let written = written.trim();
    let Some(rest) = written.strip_prefix("http://").or_else(|| written.strip_prefix("https://")) else {
        return Err("must begin with http:// or https://");
    };
    let url = written.trim_end_matches('/');
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.is_empty() || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must name a host and have no blanks in it");
    }
    if authority.contains('@') || url.contains(['?', '#']) {
        return Err("must be an address only, without user, query or fragment");
    }
    let host_length = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_length);
    if !is_host(host) {
        return Err("must name a host");
    }
    // A port that is none would be ignored, and the default port used.
    let digits = port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !port.is_empty() && digits.and_then(|digits| digits.parse::<u16>().ok()).is_none_or(|port| port == 0) {
        return Err("must have a port from 1 to 65535 behind its colon");
    }
    // The HTTP library's own rule: each call to an address that it refuses would fail.
    if url.parse::<Uri>().is_err() {
        return Err("must have no characters that an address can't have; write them percent-encoded, such as `%3C`");
    }
    Ok(url.to_owned())
}

/// A name, an IPv4 address, or an IPv6 address in brackets, which may have a zone (RFC 3986, 3.2.2; RFC 6874).
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            let (number, zone) = address.split_once('%').unwrap_or((address, ""));
            number.parse::<Ipv6Addr>().is_ok() && zone.is_ascii()
        }
        None => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
            !text.is_empty() && text.bytes().all(is_part)
        }
    }
}

/// Whether docker takes a text as the name of an image. It is no option of docker.
pub fn is_image_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte))
}

/// Whether docker takes a text as an amount of memory.
pub(super) fn is_memory_limit(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| "bkmgBKMG".contains(c));
    text.len() - digits.len() <= 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether docker takes a text as a number of processors: it counts billionths and takes at least a hundredth.
pub(super) fn is_cpus(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_decimal = is_digits(whole) && is_digits(fraction) && fraction.len() <= 9;
    is_decimal && text.parse().is_ok_and(|number: f64| (0.01..=100_000.0).contains(&number))
}

/// Whether a text is one of docker's own kinds of network, or a name as docker gives it (`[a-zA-Z0-9][a-zA-Z0-9_.-]*`).
pub(super) fn is_network(text: &str) -> bool {
    is_name(text.strip_prefix("container:").unwrap_or(text))
}

pub(super) fn is_user(text: &str) -> bool {
    let is_account = |text: &str| is_name(text.strip_prefix('_').unwrap_or(text).trim_end_matches('$'));
    match text.split_once(':') {
        Some((user, group)) => is_account(user) && is_account(group),
        None => is_account(text),
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Whether a text is an absolute path of the container. With `..` it would depend on links in the image.
pub(super) fn is_container_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..")
}

/// An absolute path of the container without `.`, `..` and empty parts, so that paths can be compared.
pub(super) fn normalize(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The part of a path that follows a folder; empty for the folder itself, `None` for a path that isn't in it.
pub(super) fn path_below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

#[cfg(test)]
mod tests {
    use super::clean_base_url;

    #[test]
    fn base_urls_are_cleaned_and_validated() {
        assert_eq!(clean_base_url(" https://h:1/p/ "), Ok("https://h:1/p".to_owned()));
        for right in [
            "http://h",
            "http://h:65535",
            "https://[::1]",
            "https://[::1]:8443/p",
            "http://127.0.0.1:1",
            "http://[fe80::1%25eth0]:80",
        ] {
            assert_eq!(clean_base_url(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "h",
            "ftp://h",
            "http://",
            "http://u@h",
            "http://h/?q",
            "http://a b",
            "http://h:",
            "http://h:0",
            "http://h:65536",
            "http://h:x",
            "http://[::1",
            "http://:1",
            "http://[]",
            "http://[h]",
            "http://[::1]x",
            "http://h:+1",
            "http://h:1:2",
            "http://h%41",
            "http://hü",
            "http://h/<p",
        ] {
            assert!(clean_base_url(wrong).is_err(), "{wrong}");
        }
    }
}
