//! The user's cache folder: what was measured and compiled for an adapter, so that the next start need not.

use std::path::{Path, PathBuf};

use centripetal::device::DeviceInfo;

use crate::files;

/// The file `centripetal/WHAT-ADAPTER.EXTENSION`; `None` where the system names no cache folder.
pub(crate) fn path(what: &str, info: &DeviceInfo, extension: &str) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || folder("HOME");
    let cache = folder("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            folder("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            home().map(|home| home.join("Library/Caches"))
        } else {
            home().map(|home| home.join(".cache"))
        }
    })?;
    let words =
        info.name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    Some(cache.join("centripetal").join(format!("{what}-{name}.{extension}")))
}

/// Writes `bytes` to `path`; whether that could be done.
pub(crate) fn keep(path: &Path, bytes: &[u8]) -> bool {
    let made = path.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok());
    made && files::write(path, bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::device::Device;

    #[test]
    fn the_file_is_named_by_the_adapter() {
        let mut info = Device::cpu("test").info().clone();
        info.name = "llvmpipe (LLVM 15.0.6, 256 bits)/../x".to_owned();
        let path = path("tune", &info, "json");
        let name = path.and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        // Without a home there is no file.
        assert!(name.is_none_or(|name| name == "tune-llvmpipe-llvm-15-0-6-256-bits-x.json"));
    }
}
