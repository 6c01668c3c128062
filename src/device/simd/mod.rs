//! Fast CPU paths.
pub(super) fn description() -> String {
    "portable".to_owned()
}
