//! What processes use: processor time, memory and threads.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

/// The processor time of all processes that this one has started and waited for, with their waited-for children.
pub fn ended_children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for the children's usage");
    time(usage.user_time()) + time(usage.system_time())
}

fn time(value: TimeVal) -> Duration {
    let micros = value.tv_sec() * 1_000_000 + value.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The processor time of these running processes, with that of their waited-for children. The children's is kept in
/// ticks of usually 10 ms, so a difference of two looks may be off by two ticks for each process.
pub fn cpu(processes: &[u32]) -> Duration {
    processes.iter().map(|&process| own_cpu(process) + waited_children_cpu(process)).sum()
}

fn own_cpu(process: u32) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(process).expect("a process id")));
    // It may have ended.
    clock.and_then(clock_gettime).map_or(Duration::ZERO, Duration::from)
}

fn waited_children_cpu(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may have blanks. `cutime` and `cstime` are the fields 16 and 17 of proc(5).
    let fields = text.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Duration::from_secs(ticks) / u32::try_from(rate).expect("a small number")
}

/// The largest resident memory that a process has had so far, in MiB.
pub fn peak_mib(process: u32) -> f64 {
    status(process, "VmHWM:") / 1024.0
}

/// The resident memory of a process, in MiB.
pub fn resident_mib(process: u32) -> f64 {
    status(process, "VmRSS:") / 1024.0
}

/// The number of threads of a process.
pub fn threads(process: u32) -> f64 {
    status(process, "Threads:")
}

/// A number in `/proc/PID/status`; 0 for a process that has ended.
fn status(process: u32, name: &str) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{cpu, ended_children_cpu, peak_mib, resident_mib, threads};
    use std::process::{Command, id};
    use std::time::Duration;

    #[test]
    fn a_busy_child_is_in_the_time_of_ended_children() {
        let before = ended_children_cpu();
        let status = Command::new("sh").args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"]).status();
        assert!(status.expect("run a shell").success());
        assert!(ended_children_cpu() - before > Duration::from_millis(5));
    }

    #[test]
    fn the_own_process_has_memory_threads_and_time() {
        assert!(resident_mib(id()) > 0.5 && peak_mib(id()) > 0.5);
        assert!(threads(id()) >= 1.0);
        assert!(cpu(&[id()]) > Duration::ZERO);
    }
}
