//! Progress on stderr, and stopping half-way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes, hidden where stderr is no terminal, gone when it is dropped.
pub fn bytes(total: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {bar:30} {bytes:>10}/{total_bytes} {eta:>4} {msg}")
            .expect("a template known to be valid");
    let bar = ProgressBar::new(total as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar over steps of any kind.
pub fn steps(total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos:>4}/{len} {msg}")
        .expect("a template known to be valid");
    let bar = ProgressBar::new(total as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C something to be asked about, so that temporary files can be removed; a second one
/// ends the program at once.
pub fn catch_interrupts() {
    // Without a handler, the default is to end at once: no worse than not asking for one.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
}

/// Whether Ctrl-C was pressed since [`catch_interrupts`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The same, and forgets it: for a program that only stops what it is at.
pub fn take_interrupt() -> bool {
    INTERRUPTED.swap(false, Ordering::Relaxed)
}
