//! Data sets: bytes in, batches out.
//!
//! A [`Dataset`] hands out labelled images of one shape as bytes. A [`Loader`] makes batches of them: it
//! shuffles, augments and normalises. Every format is read by a pure function of bytes ([`idx`], [`cifar`]),
//! so that a browser, which has no files, uses the same code as the command line.

pub mod augment;
pub mod cifar;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod files;
pub mod idx;
pub mod loader;
pub mod memory;
pub mod normalized;
pub mod picture;
pub mod synthetic;

pub use augment::{Augment, Flip};
#[cfg(feature = "embedded")]
pub use embedded::embedded;
pub use loader::Loader;
pub use memory::{InMemory, Subset};
pub use normalized::normalized;
pub use synthetic::Synthetic;

use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::rng::Rng;

/// The label of a row that holds no sample (the end of a partial last batch). The loss skips it.
pub const IGNORE: u32 = u32::MAX;

/// Labelled images of one shape, by index.
pub trait Dataset: Send + Sync {
    /// A name for messages and reports ("Fashion-MNIST").
    fn name(&self) -> &str;

    /// How many images there are; never 0 for a data set of this crate.
    fn len(&self) -> usize;

    /// Whether there are no images at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[C, H, W]` of every image.
    fn shape(&self) -> [usize; 3];

    /// Class names; labels are indices into them.
    fn classes(&self) -> &[String];

    /// The class of image `index < len`.
    fn label(&self, index: usize) -> u32;

    /// Writes image `index < len` to `out` as C*H*W bytes, one channel after the other.
    ///
    /// # Errors
    /// When the image is decoded on demand and cannot be.
    fn image(&self, index: usize, out: &mut [u8]) -> Result<()>;

    /// Writes image `index` as training sees it before it is mirrored and normalised: a part that `rng` chooses, at least
    /// `smallest_crop` percent of its area, resized to the shape. Data sets whose images have that shape already, and all of
    /// them at 0 percent, give the whole image.
    ///
    /// # Errors
    /// Those of [`Dataset::image`].
    fn varied(&self, index: usize, smallest_crop: u8, rng: &mut Rng, out: &mut [u8]) -> Result<()> {
        let _ = (smallest_crop, rng);
        self.image(index, out)
    }

    /// Whether images are decoded each time they are asked for, so that several threads are worth their while.
    fn decodes(&self) -> bool {
        false
    }

    /// Mean and standard deviation that [`Loader`] normalises with.
    fn normalization(&self) -> &Normalization;
}

/// Per-channel statistics in units of the full range, 0 (black) to 1 (white).
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Normalization {
    /// Subtracted from each channel.
    pub mean: Vec<f32>,
    /// Each channel is divided by it; positive.
    pub std: Vec<f32>,
}

from_json!(Normalization { mean, std });

impl Normalization {
    /// Measures `dataset` on at most `limit` images, evenly spaced over it.
    ///
    /// The deviation is that of the population, and at least 1/255: one grey level, so that a constant channel
    /// does not become infinite.
    ///
    /// # Errors
    /// Those of [`Dataset::image`], and a data set or `limit` of zero images.
    pub fn measure(dataset: &dyn Dataset, limit: usize) -> Result<Self> {
        let [channels, height, width] = dataset.shape();
        let used = dataset.len().min(limit);
        if used == 0 {
            return Err(Error::new(
                ErrorKind::Data,
                format!("measuring mean and deviation of {}", dataset.name()),
            )
            .expected("at least one image")
            .found("none"));
        }
        let mut image = vec![0; channels * height * width];
        // Sums of integers are exact, so the result depends on neither order nor platform.
        let mut sums = vec![[0u64; 2]; channels];
        for sample in 0..used {
            dataset.image(sample * dataset.len() / used, &mut image)?;
            for (sum, plane) in sums.iter_mut().zip(image.chunks_exact(height * width)) {
                for &pixel in plane {
                    let pixel = u64::from(pixel);
                    sum[0] += pixel;
                    sum[1] += pixel * pixel;
                }
            }
        }
        let count = (used * height * width) as f64;
        let moments = sums.iter().map(|&[sum, squares]| {
            let mean = sum as f64 / count;
            let variance = (squares as f64 / count - mean * mean).max(0.0);
            ((mean / 255.0) as f32, (variance.sqrt().max(1.0) / 255.0) as f32)
        });
        let (mean, std) = moments.unzip();
        Ok(Normalization { mean, std })
    }
}

/// Images of which [`fingerprint`] reads the pixels, evenly spaced over the data set.
const FINGERPRINT_IMAGES: usize = 64;

/// FNV-1a over bytes: a checksum against mistakes, not against malice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    /// Goes on with `bytes`.
    pub fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// That of all bytes so far.
    pub fn value(self) -> u64 {
        self.0
    }
}

/// A number that another data set most likely does not have, by which a resumed run knows its data again: the
/// [`Checksum`] of the count, the shape, the class names, all labels, and the pixels of 64 images.
///
/// # Errors
/// Those of [`Dataset::image`].
pub fn fingerprint(dataset: &dyn Dataset) -> Result<u64> {
    let mut checksum = Checksum::default();
    let mut add = |bytes: &[u8]| checksum.add(bytes);
    let (count, shape) = (dataset.len(), dataset.shape());
    for number in [count].iter().chain(&shape) {
        add(&(*number as u64).to_le_bytes());
    }
    for class in dataset.classes() {
        add(class.as_bytes());
        add(&[0]);
    }
    for sample in 0..count {
        add(&dataset.label(sample).to_le_bytes());
    }
    let mut image = vec![0; shape.iter().product()];
    let read = count.min(FINGERPRINT_IMAGES);
    for sample in 0..read {
        dataset.image(sample * count / read, &mut image)?;
        add(&image);
    }
    Ok(checksum.value())
}

/// A file's bytes and the name that messages call it by. The library itself opens no files.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where the bytes are from: a path or an address.
    pub name: &'a str,
    /// The whole file.
    pub bytes: &'a [u8],
}

/// What one step of training or evaluation reads.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// N*C*H*W normalised values; all 0 in rows past `samples`.
    pub images: Vec<f32>,
    /// N labels; [`IGNORE`] in rows past `samples`.
    pub labels: Vec<u32>,
    /// How many of the N rows hold a sample; below N only in the last batch of an evaluation.
    pub samples: usize,
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_statistics_are_those_of_the_pixels() {
        let plain = Normalization { mean: vec![0.0; 2], std: vec![1.0; 2] };
        let images = vec![0, 255, 10, 10, 0, 255, 10, 10];
        let data = InMemory::new("tiny", [2, 1, 2], names(&["a", "b"]), images, vec![0, 1], plain).unwrap();
        let measured = Normalization::measure(&data, 100).unwrap();
        assert_eq!(measured.mean, [0.5, 10.0 / 255.0]);
        assert_eq!(measured.std, [0.5, 1.0 / 255.0]);
        let nothing = Normalization::measure(&data, 0).unwrap_err().to_string();
        assert!(nothing.contains("at least one image"), "{nothing}");
    }

    #[test]
    fn fingerprints_tell_data_sets_apart() {
        let set = |class: &str, pixel: u8, labels: Vec<u32>| {
            let plain = Normalization { mean: vec![0.0], std: vec![1.0] };
            let images = vec![pixel; labels.len()];
            InMemory::new("tiny", [1, 1, 1], names(&["a", class]), images, labels, plain).unwrap()
        };
        let print = |data: InMemory| fingerprint(&data).unwrap();
        let one = print(set("b", 7, vec![0, 1]));
        assert_eq!(one, print(set("b", 7, vec![0, 1])));
        let others =
            [set("c", 7, vec![0, 1]), set("b", 8, vec![0, 1]), set("b", 7, vec![1, 0]), set("b", 7, vec![0])];
        for other in others {
            assert_ne!(one, print(other));
        }
    }
}
