//! What the fuzz targets call.

mod entries;

/// Gives `bytes` to the entry `name`: any outcome but a panic is well.
pub fn run(name: &str, bytes: &[u8]) {
    let entry = entries::ENTRIES.iter().find(|entry| entry.name == name);
    let entry = entry.unwrap_or_else(|| panic!("no entry {name}"));
    assert!(entry.ceiling > 0, "{name} has a ceiling");
    if let Err(error) = (entry.read)(bytes) {
        assert!(!error.to_string().is_empty(), "an error says something");
    }
}
