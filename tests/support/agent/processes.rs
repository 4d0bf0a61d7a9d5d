//! Signals to processes, and the search for processes that a test has left.

#[cfg(unix)]
pub use unix::{kill_all_with_variable, send, send_to_group, with_variable};

#[cfg(not(unix))]
pub use other::kill_all_with_variable;

#[cfg(unix)]
mod unix {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::collections::HashSet;
    use std::fs;
    use std::thread;
    use std::time::Duration;

    fn pid(number: u32) -> Pid {
        Pid::from_raw(i32::try_from(number).expect("a process id"))
    }

    pub fn send(process: u32, signal: Signal) {
        // The process may have ended by itself.
        let _ = kill(pid(process), signal);
    }

    pub fn send_to_group(leader: u32, signal: Signal) {
        let _ = kill(Pid::from_raw(-pid(leader).as_raw()), signal);
    }

    /// Kills every process that was started with this variable and value: a detached agent, and docker clients that
    /// outlived their agent. The value must be unique. Returns the number of processes.
    pub fn kill_all_with_variable(name: &str, value: &str) -> usize {
        let entry = format!("{name}={value}").into_bytes();
        let mut killed = HashSet::new();
        // A process may start another one between the search and the kill.
        for _ in 0..100 {
            let found = with_entry(&entry);
            if found.is_empty() {
                break;
            }
            for process in found {
                send(process, Signal::SIGKILL);
                killed.insert(process);
            }
            thread::sleep(Duration::from_millis(10));
        }
        killed.len()
    }

    /// Every process that was started with this variable and value.
    pub fn with_variable(name: &str, value: &str) -> Vec<u32> {
        with_entry(format!("{name}={value}").as_bytes())
    }

    fn with_entry(entry: &[u8]) -> Vec<u32> {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let has_entry = |number: &u32| {
            fs::read(format!("/proc/{number}/environ"))
                .is_ok_and(|text| text.split(|&byte| byte == 0).any(|line| line == entry))
        };
        processes.flatten().filter_map(|process| process.file_name().to_str()?.parse().ok()).filter(has_entry).collect()
    }
}

#[cfg(not(unix))]
mod other {
    /// Finds none: without `/proc` a test ends its processes itself.
    pub fn kill_all_with_variable(_name: &str, _value: &str) -> usize {
        0
    }
}
