//! The compiled pipelines, kept in the user's cache folder where the backend can (Vulkan): `centripetal/pipelines-ADAPTER.bin`.
//!
//! A checksum, then the bytes of wgpu's cache, which name their adapter, driver and version themselves. Whatever goes wrong
//! with the file costs compiling, never a run.

use std::path::PathBuf;

use centripetal::data::Checksum;
use centripetal::device::{Device, DeviceInfo};

use crate::cache;
use crate::files;

/// Largest cache that is read.
const CEILING: u64 = 256 << 20;

fn path(info: &DeviceInfo) -> Option<PathBuf> {
    cache::path("pipelines", info, "bin")
}

fn checksum(data: &[u8]) -> [u8; 8] {
    let mut checksum = Checksum::default();
    checksum.add(data);
    checksum.value().to_le_bytes()
}

/// The bytes that [`keep`] was given, if `file` is whole.
fn open(file: &[u8]) -> Option<&[u8]> {
    let (sum, data) = file.split_first_chunk()?;
    (checksum(data) == *sum).then_some(data)
}

/// Has `device` compile through the cache, and begin with what was kept on its adapter before.
#[allow(unsafe_code, reason = "wgpu trusts its caller that the bytes are those which it once gave")]
pub(crate) fn load(device: &Device) {
    device.use_pipeline_cache(|gpu| {
        let file = path(device.info()).and_then(|path| files::read_part(&path, 0..CEILING).ok());
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("pipelines"),
            data: file.as_deref().and_then(open),
            // Those of another adapter, driver or version are left alone.
            fallback: true,
        };
        // SAFETY: the file lies in the user's own cache folder, only `keep` writes it, whole or not at all, with what
        // `PipelineCache::get_data` gave, and the checksum says that it still is that.
        unsafe { gpu.create_pipeline_cache(&descriptor) }
    });
}

/// Keeps what `device` has compiled, if it is more than before. Failing is no loss but time.
pub(crate) fn keep(device: &Device) {
    if let (Some(data), Some(path)) = (device.pipeline_cache(), path(device.info())) {
        let file = [&checksum(&data)[..], &data].concat();
        if files::read_part(&path, 0..CEILING).ok().as_ref() != Some(&file) {
            cache::keep(&path, &file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_damaged_or_cut_is_as_good_as_none() {
        let data = *b"what a driver wrote";
        let mut file = [&checksum(&data)[..], &data].concat();
        assert_eq!(open(&file), Some(&data[..]));
        for length in 0..file.len() {
            assert_eq!(open(&file[..length]), None, "{length} bytes");
        }
        file[12] ^= 1;
        assert_eq!(open(&file), None);
    }
}
