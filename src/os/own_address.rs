//! Which network addresses are this machine's, and which of its ports any user may listen on.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::platform::is_shortage;

/// The first port for which no privilege is needed, where the system doesn't say another one.
const UNPRIVILEGED: u16 = 1024;

/// Whether a connection to an address ends on this machine. Nothing is sent to find that out.
///
/// Where it can't be found out for want of a descriptor, the answer is yes.
pub fn is_own(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    // The system takes the source of what it would send, and for one of its own addresses that is the address itself.
    let any = if ip.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        match address {
            // It names the interface of an address that several have.
            SocketAddr::V6(whole) if ip.is_ipv6() => socket.connect(whole)?,
            _ => socket.connect((ip, address.port()))?,
        }
        socket.local_addr()
    });
    match source {
        Ok(source) => source.ip().to_canonical() == ip,
        // Else there is no way to it, or this machine has no addresses of its kind.
        Err(error) => is_shortage(&error),
    }
}

/// The first port of this machine that an ordinary user may listen on.
pub fn first_unprivileged_port() -> u16 {
    // ip(7); it is the setting of both kinds of addresses.
    let said = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    said.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(UNPRIVILEGED)
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn the_machines_own_addresses_are_known() {
        for own in ["127.0.0.1:80", "127.9.9.9:1", "[::1]:80", "0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(is_own(&own.parse().unwrap()), "{own}");
        }
        // Addresses of documents (RFC 5737, RFC 3849) belong to no machine.
        for other in ["192.0.2.1:80", "198.51.100.7:8080", "[2001:db8::1]:80"] {
            assert!(!is_own(&other.parse().unwrap()), "{other}");
        }
    }
}
