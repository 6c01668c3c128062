//! What goes wrong, on purpose, and a table of what was lost: kills, broken files, full disks, folders that become
//! read-only, lost devices, and long runs. Anything lost fails.
//!
//! `cargo test -p centripetal-cli --test faults` runs it in short form, `tests/faults` in full.

mod faults {
    pub(crate) mod devices;
    pub(crate) mod files;
    pub(crate) mod kills;
    pub(crate) mod long_run;
    pub(crate) mod storage;
    pub(crate) mod table;
}

use faults::table::{Row, print};
use faults::{devices, files, kills, long_run, storage};
use peak_alloc::PeakAlloc;

/// Counts what is allocated, for the ceiling of the parsers.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() {
    let long = std::env::args().any(|arg| arg == "--long");
    let tries = |short: usize, full: usize| if long { full } else { short };
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(files::broken(tries(2_000, 10_000)));
    rows.extend(kills::killed(tries(8, 50)));
    rows.extend(storage::full(tries(3, 10)));
    rows.extend(storage::read_only(tries(2, 5)));
    rows.extend(devices::lost(tries(2, 10)));
    rows.extend(long_run::grown(tries(1_500, 10_000)));
    print(&rows);
    if rows.iter().any(Row::is_bad) {
        std::process::exit(1);
    }
}
