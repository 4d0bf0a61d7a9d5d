//! The members of groups, as the machine's own files name them (passwd(5), group(5)).
//!
//! Many systems give each user a group of its own and a umask of 002, so that all of the user's folders are writable for
//! it. The members of a group of a directory service (LDAP) can't be listed, so none of its groups is taken for such a one.

use std::fs;
use std::io;

use nix::unistd::{User, geteuid};

/// A group below this number is one of the system's.
const USERS_BEGIN: u32 = 100;

/// The accounts and groups of this machine.
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    pub fn read() -> io::Result<Self> {
        Ok(Self { passwd: fs::read_to_string("/etc/passwd")?, group: fs::read_to_string("/etc/group")? })
    }

    /// Whether a group is its owner's own, or one of the system's, and has no other members than root, this user and the
    /// owner.
    pub fn is_owners_group(&self, gid: u32, owner: u32) -> bool {
        self.has_only(gid, owner, [0, geteuid().as_raw(), owner])
    }

    fn has_only(&self, gid: u32, owner: u32, trusted: [u32; 3]) -> bool {
        // A line that begins so stands for accounts that aren't in the file.
        if self.passwd.lines().chain(self.group.lines()).any(|line| line.starts_with(['+', '-'])) {
            return false;
        }
        let users = || self.passwd.lines().filter_map(Person::parse);
        // Several entries may have one gid.
        let entries: Vec<_> = self.group.lines().filter_map(Group::parse).filter(|group| group.gid == gid).collect();
        let is_own = users()
            .any(|user| user.uid == owner && user.gid == gid && entries.iter().any(|group| group.name == user.name));
        let is_trusted = |name: &str| {
            let mut named = users().filter(|user| user.name == name).peekable();
            named.peek().is_some() && named.all(|user| trusted.contains(&user.uid))
        };
        !entries.is_empty()
            && (is_own || gid < USERS_BEGIN)
            && entries.iter().flat_map(|group| group.members.split(',')).all(|name| name.is_empty() || is_trusted(name))
            && users().all(|user| user.gid != gid || trusted.contains(&user.uid))
    }
}

struct Person<'l> {
    name: &'l str,
    uid: u32,
    gid: u32,
}

impl<'l> Person<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name, uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

struct Group<'l> {
    name: &'l str,
    gid: u32,
    members: &'l str,
}

impl<'l> Group<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, gid, members) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name, gid: gid.parse().ok()?, members: members.trim() })
    }
}

/// How many processes and threads there can be, and by what: the machine's limit, or that of this process's user.
pub fn most_processes() -> Option<(u64, &'static str)> {
    let of_machine = fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    // Root has no limit of its own.
    let limits = if geteuid().is_root() { String::new() } else { fs::read_to_string("/proc/self/limits").ok()? };
    // "Max processes", the soft limit, the hard one, and the unit (proc_pid_limits(5)).
    let line = limits.lines().find_map(|line| line.strip_prefix("Max processes"));
    let of_user = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Some(match of_user {
        Some(most) if most < of_machine => (most, "the agent's user may have"),
        _ => (of_machine, "this machine may have"),
    })
}

/// The other account that may take this uid or gid in a user namespace of its own, by `/etc/subuid` and `/etc/subgid`
/// (subuid(5)), and which of the two that is.
pub fn subordinate_to(uid: u32, gid: Option<u32>) -> Option<(&'static str, String)> {
    let own = User::from_uid(geteuid()).ok().flatten().map(|account| account.name);
    let owner = |kind: &'static str, id: u32| {
        let ranges = fs::read_to_string(format!("/etc/sub{kind}")).ok()?;
        let is_other = |name: &&str| own.as_deref() != Some(*name) && **name != geteuid().to_string();
        ranges.lines().filter_map(|line| owner_in(line, id)).find(is_other).map(|name| (kind, name.to_owned()))
    };
    owner("uid", uid).or_else(|| owner("gid", gid?))
}

/// The account that a line names, if its range has the id.
fn owner_in(line: &str, id: u32) -> Option<&str> {
    let mut fields = line.trim().split(':');
    let (name, first, count) =
        (fields.next()?, fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    (first..first.saturating_add(count)).contains(&u64::from(id)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{Accounts, owner_in};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:\nalice:x:1000:\nbob:x:1001:\nlab:x:2000:\n";

    /// Whether the group is alice's alone, with these lines added.
    fn is_alices(gid: u32, passwd: &str, group: &str) -> bool {
        let accounts = Accounts { passwd: format!("{PASSWD}{passwd}"), group: format!("{GROUP}{group}") };
        accounts.has_only(gid, 1000, [0, 1000, 1000])
    }

    #[test]
    fn a_group_without_other_members_is_its_owners() {
        for gid in [0, 50, 1000] {
            assert!(is_alices(gid, "", ""), "{gid}");
        }
        assert!(is_alices(1000, "", "again:x:1000:alice,root\n"));
        assert!(is_alices(1000, "second:x:1000:1000::/:/bin/sh\n", ""), "a second name of the owner's uid");
        for gid in [1001, 2000, 3000] {
            assert!(!is_alices(gid, "", ""), "{gid}");
        }
    }

    #[test]
    fn members_by_the_primary_group_and_by_a_second_entry_count() {
        for gid in [0, 50, 1000] {
            assert!(!is_alices(gid, &format!("eve:x:1002:{gid}::/:/bin/sh\n"), ""), "{gid}");
            assert!(!is_alices(gid, "", &format!("again:x:{gid}:alice,bob\n")), "{gid}");
            assert!(!is_alices(gid, "", &format!("again:x:{gid}:no-such-account\n")), "{gid}");
        }
        assert!(!is_alices(1000, "bob:x:1000:1000::/:/bin/sh\n", "again:x:1000:bob\n"), "a name of two accounts");
        assert!(!is_alices(1000, "+::::::\n", ""));
    }

    #[test]
    fn a_range_of_subordinate_ids_has_its_ends() {
        let line = "alice:100000:65536";
        for (id, owner) in [(99_999, None), (100_000, Some("alice")), (165_535, Some("alice")), (165_536, None)] {
            assert_eq!(owner_in(line, id), owner, "{id}");
        }
        assert_eq!(owner_in("", 0), None);
        assert_eq!(owner_in("alice:x:1", 1), None);
    }
}
