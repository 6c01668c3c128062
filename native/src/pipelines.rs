//! The compiled pipelines, kept in the user's cache folder where the backend can (Vulkan): `centripetal/pipelines-ADAPTER.bin`.
//!
//! A checksum over the adapter's key and the bytes of wgpu's cache, then those bytes, which name driver and version
//! themselves. Whatever goes wrong with the file costs compiling, never a run.

use std::path::PathBuf;

use centripetal::data::Checksum;
use centripetal::device::Device;
use wgpu::util::pipeline_cache_key;

use crate::cache;
use crate::files;

/// Largest cache that is read.
const CEILING: u64 = 256 << 20;

/// Where the pipelines of an adapter lie.
pub(crate) struct Pipelines {
    path: PathBuf,
    /// Of vendor and device: two adapters may have one name, and wgpu answers the cache of another with an error.
    key: String,
}

/// The first bytes of the file that holds `data` for the adapter of `key`.
fn checksum(key: &str, data: &[u8]) -> [u8; 8] {
    let mut checksum = Checksum::default();
    checksum.add(key.as_bytes());
    checksum.add(data);
    checksum.value().to_le_bytes()
}

/// The bytes that [`Pipelines::keep`] wrote for the adapter of `key`, if `file` holds them, whole.
fn open<'a>(key: &str, file: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, data) = file.split_first_chunk()?;
    (checksum(key, data) == *sum).then_some(data)
}

impl Pipelines {
    /// Has `device` compile through a cache that begins with what was kept on its adapter before. `None` where there is no
    /// such cache or no folder for it.
    #[allow(unsafe_code, reason = "wgpu trusts its caller that the bytes are those which it once gave")]
    pub(crate) fn load(device: &Device) -> Option<Pipelines> {
        let mut opened = None;
        device.use_pipeline_cache(|gpu| {
            let key = pipeline_cache_key(&gpu.adapter_info());
            opened = key.and_then(|key| {
                let path = cache::path("pipelines", device.info(), "bin")?;
                Some(Pipelines { path, key })
            });
            let file = opened.as_ref().and_then(Pipelines::read);
            let kept = opened.as_ref().zip(file.as_deref());
            let descriptor = wgpu::PipelineCacheDescriptor {
                label: Some("pipelines"),
                data: kept.and_then(|(pipelines, file)| open(&pipelines.key, file)),
                // Those of another driver or version are left alone.
                fallback: true,
            };
            // SAFETY: the file lies in the user's own cache folder, only `keep` writes it, whole or not at all, with what
            // `PipelineCache::get_data` gave, and the checksum says that it still is that, and of this adapter.
            unsafe { gpu.create_pipeline_cache(&descriptor) }
        });
        opened
    }

    fn read(&self) -> Option<Vec<u8>> {
        files::read_part(&self.path, 0..CEILING).ok()
    }

    /// Keeps what `device` has compiled, if that is not what lies there. Failing is no loss but time.
    pub(crate) fn keep(&self, device: &Device) {
        if let Some(data) = device.pipeline_cache() {
            let file = [&checksum(&self.key, &data)[..], &data].concat();
            if self.read().as_ref() != Some(&file) {
                cache::keep(&self.path, &file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_damaged_cut_or_of_another_adapter_is_as_good_as_none() {
        let data = *b"what a driver wrote";
        let mut file = [&checksum("vulkan_1_2", &data)[..], &data].concat();
        assert_eq!(open("vulkan_1_2", &file), Some(&data[..]));
        assert_eq!(open("vulkan_1_3", &file), None);
        for length in 0..file.len() {
            assert_eq!(open("vulkan_1_2", &file[..length]), None, "{length} bytes");
        }
        file[12] ^= 1;
        assert_eq!(open("vulkan_1_2", &file), None);
    }
}
