//! Ctrl-C: the first asks the search to stop, the second ends at once.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit::{Exit, Failure};

/// A flag that the first interrupt (or termination request) sets.
///
/// The second ends the process at once: the journal is flushed per evaluation, so that nothing
/// but the evaluations in flight is lost.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let installed = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(Exit::Interrupted as u8));
        }
        // Nothing is left to tell the user when stderr itself is gone.
        let _ = writeln!(
            std::io::stderr(),
            "\nstopping after the evaluations in flight; once more ends at once"
        );
    });
    installed.map_err(|problem| Failure::input(format!("cannot listen for signals: {problem}")))?;
    Ok(stop)
}
