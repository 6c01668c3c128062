//! What goes wrong, on purpose, and a table of what was lost: kills, broken files, full disks, folders that become
//! read-only, lost devices, and long runs. Anything lost fails.
//!
//! `cargo test -p centripetal-cli --test faults` runs it in short form, `tests/faults` in full. Names of kinds (`files`,
//! `kills`, ...) run those alone; `--files=N` and `--seed=N` damage more files, or others.

mod faults {
    pub(crate) mod damage;
    pub(crate) mod devices;
    pub(crate) mod files;
    pub(crate) mod kills;
    pub(crate) mod long_run;
    pub(crate) mod storage;
    pub(crate) mod table;
}

#[path = "../../tests/fuzz/entries.rs"]
mod entries;

use faults::table::{Row, print};
use faults::{devices, files, kills, long_run, storage};
use peak_alloc::PeakAlloc;

/// Counts what is allocated, for the ceiling of the parsers.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fn main() {
    let long = std::env::args().any(|arg| arg == "--long");
    let number = |name: &str| std::env::args().find_map(|arg| arg.strip_prefix(name)?.parse::<u64>().ok());
    let seed = number("--seed=").unwrap_or(7);
    let files_tried = number("--files=").map(|files| files as usize);
    let named: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let tries = |short: usize, full: usize| if long { full } else { short };
    let kinds: [(&str, &dyn Fn() -> Vec<Row>); 8] = [
        ("files", &|| files::broken(files_tried.unwrap_or(tries(20_000, 100_000)), seed)),
        ("reports", &|| files::reports(tries(20, 300))),
        ("kills", &|| kills::killed(tries(12, 60))),
        ("changes", &|| kills::scanned(tries(11, 1))),
        ("full", &|| storage::full(tries(3, 10))),
        ("read-only", &|| storage::read_only(tries(2, 5))),
        ("devices", &|| devices::lost(tries(2, 10))),
        ("long-run", &|| long_run::grown(tries(1_500, 10_000))),
    ];
    let wanted = |name: &str| named.is_empty() || named.iter().any(|word| word == name);
    let rows: Vec<Row> =
        kinds.iter().filter(|(name, _)| wanted(name)).flat_map(|(_, measure)| measure()).collect();
    print(&rows);
    if rows.is_empty() || rows.iter().any(|row| row.is_bad(long)) {
        std::process::exit(1);
    }
}
