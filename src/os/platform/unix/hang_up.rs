//! SIGHUP, which asks a daemon to read its configuration again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc::c_int;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static HAS_COME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: c_int) {
    HAS_COME.store(true, Ordering::Relaxed);
}

/// From now on SIGHUP ends this process no more; [`take_hang_up`] says whether it has come. To be called after other
/// handlers are set.
pub fn catch_hang_up() -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler only sets a flag, which is allowed at any moment.
    unsafe { sigaction(Signal::SIGHUP, &action) }.map(drop).map_err(io::Error::from)
}

/// Whether SIGHUP has come since the last call.
pub fn take_hang_up() -> bool {
    HAS_COME.swap(false, Ordering::Relaxed)
}
