//! The IDX format of MNIST and Fashion-MNIST, raw or (with the feature `gzip`) gzip.
//!
//! Big-endian header, then bytes. Images: 2051, count, height, width, then count x height x width pixels.
//! Labels: 2049, count, then one byte each. Format: <http://yann.lecun.com/exdb/mnist/>.

use std::io::{self, Read};

#[cfg(feature = "gzip")]
use flate2::bufread::MultiGzDecoder;

use super::memory::check_labels;
use super::{InMemory, Normalization, Source, names};
use crate::error::{Error, ErrorKind, Result};

/// Files that announce more than this many bytes of content are refused: 1 GiB, 20 times Fashion-MNIST.
pub const CEILING: u64 = 1 << 30;

/// DEFLATE cannot expand a byte to more than this, so a header that announces more is a lie.
const MAX_EXPANSION: u64 = 1032;

const IMAGES_MAGIC: u32 = 2051;
const LABELS_MAGIC: u32 = 2049;

/// Which of the data sets in this format: they differ in class names and statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Ten kinds of clothing (Xiao et al. 2017). Mean .2860, deviation .3530.
    FashionMnist,
    /// Ten handwritten digits (LeCun et al. 1998). Mean .1307, deviation .3081.
    Mnist,
}

impl Family {
    /// The name for messages and reports.
    pub fn name(self) -> &'static str {
        match self {
            Family::FashionMnist => "Fashion-MNIST",
            Family::Mnist => "MNIST",
        }
    }

    fn classes(self) -> [&'static str; 10] {
        match self {
            Family::FashionMnist => [
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ],
            Family::Mnist => ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        }
    }

    fn normalization(self) -> Normalization {
        let (mean, std) = match self {
            Family::FashionMnist => (0.2860, 0.3530),
            Family::Mnist => (0.1307, 0.3081),
        };
        Normalization { mean: vec![mean], std: vec![std] }
    }
}

/// One split of `family` from its file of images and its file of labels.
///
/// # Errors
/// Those of [`images`] and [`labels`], counts that differ, and labels above 9.
pub fn dataset(family: Family, images: Source, labels: Source) -> Result<InMemory> {
    let ([count, height, width], pixels) = self::images(images)?;
    let labels_found = self::labels(labels)?;
    if labels_found.len() != count {
        return Err(Error::new(ErrorKind::Data, format!("pairing {} with {}", images.name, labels.name))
            .expected(format!("{count} labels, one an image"))
            .found(format!("{} labels", labels_found.len()))
            .next("Are the two files of the same split?"));
    }
    let classes = names(&family.classes());
    check_labels(&format!("reading the labels of {}", labels.name), &labels_found, classes.len())?;
    InMemory::new(family.name(), [1, height, width], classes, pixels, labels_found, family.normalization())
}

/// What an IDX file holds, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Images.
    Images,
    /// Labels.
    Labels,
}

/// What `source` holds, if it is an IDX file of this sort, raw or gzip.
pub fn content(source: Source) -> Option<Content> {
    let mut magic = [0; 4];
    open(source.bytes).read_exact(&mut magic).ok()?;
    match u32::from_be_bytes(magic) {
        IMAGES_MAGIC => Some(Content::Images),
        LABELS_MAGIC => Some(Content::Labels),
        _ => None,
    }
}

/// The images of an IDX file: `[N, H, W]` and N*H*W bytes.
///
/// # Errors
/// Wrong magic number, zero images, more than [`CEILING`], too few or too many bytes, damaged gzip.
pub fn images(source: Source) -> Result<([usize; 3], Vec<u8>)> {
    let doing = format!("reading the images of {}", source.name);
    let mut content = open(source.bytes);
    let [count, height, width] = header(&mut content, &doing, IMAGES_MAGIC)?;
    if count == 0 || height == 0 || width == 0 {
        return Err(Error::new(ErrorKind::Format, doing)
            .expected("at least one image of at least one pixel")
            .found(format!("{count} images of {height} x {width}")));
    }
    let what = format!("{count} images of {height} x {width}");
    let size = [count, height, width].iter().try_fold(1u64, |size, &side| size.checked_mul(u64::from(side)));
    let pixels = body(content, source, &doing, &what, size)?;
    Ok(([count as usize, height as usize, width as usize], pixels))
}

/// The labels of an IDX file.
///
/// # Errors
/// Wrong magic number, zero labels, more than [`CEILING`], too few or too many bytes, damaged gzip.
pub fn labels(source: Source) -> Result<Vec<u32>> {
    let doing = format!("reading the labels of {}", source.name);
    let mut content = open(source.bytes);
    let [count] = header(&mut content, &doing, LABELS_MAGIC)?;
    if count == 0 {
        return Err(Error::new(ErrorKind::Format, doing).expected("at least one label").found("none"));
    }
    let labels = body(content, source, &doing, &format!("{count} labels"), Some(u64::from(count)))?;
    Ok(labels.into_iter().map(u32::from).collect())
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

#[cfg(feature = "gzip")]
fn open(bytes: &[u8]) -> Box<dyn Read + '_> {
    if is_gzip(bytes) { Box::new(MultiGzDecoder::new(bytes)) } else { Box::new(bytes) }
}

#[cfg(not(feature = "gzip"))]
fn open(bytes: &[u8]) -> Box<dyn Read + '_> {
    Box::new(bytes)
}

/// Reads the magic number and the `D` sizes after it.
fn header<const D: usize>(content: &mut dyn Read, doing: &str, magic: u32) -> Result<[u32; D]> {
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        content.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Format, doing)
                .expected(format!("an IDX header of {} bytes", 4 + 4 * D))
                .found("a file that ends before")
                .next("Download it again"),
            _ => damaged(doing, &error),
        })?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = word()?;
    if found != magic {
        let error = Error::new(ErrorKind::Format, doing)
            .expected(format!("magic number {magic} in the first four bytes"))
            .found(found);
        return Err(match found {
            IMAGES_MAGIC | LABELS_MAGIC => error.next("Are the files of images and labels swapped?"),
            _ if is_gzip(&found.to_be_bytes()) => error.next("It is a gzip file: unpack it first"),
            _ => error.next("This is not an IDX file of that kind"),
        });
    }
    let mut sizes = [0; D];
    for size in &mut sizes {
        *size = word()?;
    }
    Ok(sizes)
}

/// Reads exactly `size` bytes, refusing an announcement that cannot be true before any memory is taken for it.
fn body(content: impl Read, source: Source, doing: &str, what: &str, size: Option<u64>) -> Result<Vec<u8>> {
    let error = || Error::new(ErrorKind::Format, doing);
    let size = size.filter(|&size| size <= CEILING).ok_or_else(|| {
        error()
            .expected(format!("at most {CEILING} bytes"))
            .found(format!("a header that announces {what}"))
            .next("The file is damaged or no data set of this family")
    })?;
    let truncated = |found: &dyn std::fmt::Display| {
        error()
            .expected(format!("{size} bytes after the header ({what})"))
            .found(found)
            .next("The file is cut off: download it again")
    };
    let stored = source.bytes.len() as u64;
    let possible = if is_gzip(source.bytes) { stored.saturating_mul(MAX_EXPANSION) } else { stored };
    if possible < size {
        return Err(truncated(&format!("a file of {stored} bytes, which cannot hold them")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let read = content.take(size + 1).read_to_end(&mut bytes);
    match (read, bytes.len() as u64) {
        (Err(failure), found) if failure.kind() == io::ErrorKind::UnexpectedEof && found < size => {
            Err(truncated(&format!("gzip data that ends after {found}")))
        }
        (Err(failure), _) => Err(damaged(doing, &failure)),
        (Ok(_), found) if found < size => Err(truncated(&found)),
        (Ok(_), found) if found > size => Err(error()
            .expected(format!("{size} bytes after the header ({what})"))
            .found("more")
            .next("The header and the content are of different files")),
        (Ok(_), _) => Ok(bytes),
    }
}

fn damaged(doing: &str, failure: &io::Error) -> Error {
    Error::new(ErrorKind::Format, doing)
        .expected("a sound gzip file")
        .found(failure)
        .next("The file is damaged: download it again")
}

#[cfg(all(test, feature = "gzip"))]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::data::Dataset;

    fn images_file(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let words = [IMAGES_MAGIC, count, height, width];
        words.iter().flat_map(|word| word.to_be_bytes()).chain(pixels.iter().copied()).collect()
    }

    fn labels_file(count: u32, labels: &[u8]) -> Vec<u8> {
        [LABELS_MAGIC, count]
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .chain(labels.iter().copied())
            .collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn images_error(bytes: &[u8]) -> String {
        images(Source { name: "x-images", bytes }).unwrap_err().to_string()
    }

    fn open_pair(images: &[u8], labels: &[u8]) -> Result<InMemory> {
        let images = Source { name: "x-images", bytes: images };
        dataset(Family::FashionMnist, images, Source { name: "x-labels", bytes: labels })
    }

    #[test]
    fn raw_and_gzip_give_the_same_data_set() {
        let (pixels, labels) = (images_file(2, 1, 3, &[1, 2, 3, 4, 5, 6]), labels_file(2, &[9, 0]));
        for (pixels, labels) in [(pixels.clone(), labels.clone()), (gzip(&pixels), gzip(&labels))] {
            let data = open_pair(&pixels, &labels).unwrap();
            let mut image = [0; 3];
            data.image(1, &mut image).unwrap();
            assert_eq!((data.shape(), data.len(), image), ([1, 1, 3], 2, [4, 5, 6]));
            assert_eq!(data.classes()[data.label(0) as usize], "Ankle boot");
        }
    }

    #[test]
    fn wrong_magic_says_what_was_found() {
        assert_eq!(
            images_error(&labels_file(1, &[0])),
            "reading the images of x-images: expected magic number 2051 in the first four bytes, found 2049. \
             Are the files of images and labels swapped?"
        );
        assert!(images_error(b"\x89PNG....").contains("This is not an IDX file"));
        let swapped =
            labels(Source { name: "x-labels", bytes: &images_file(1, 1, 1, &[0]) }).unwrap_err().to_string();
        assert!(swapped.contains("2049 in the first four bytes, found 2051"), "{swapped}");
    }

    #[test]
    fn truncated_and_trailing_bytes_are_named() {
        assert!(images_error(&[]).contains("header of 16 bytes, found a file that ends before"));
        assert!(images_error(&images_file(2, 1, 2, &[])[..9]).contains("header of 16 bytes"));
        let short = images_error(&images_file(100, 1, 2, &[0; 50]));
        assert_eq!(
            short,
            "reading the images of x-images: expected 200 bytes after the header (100 images of 1 x 2), found a \
             file of 66 bytes, which cannot hold them. The file is cut off: download it again"
        );
        assert!(images_error(&images_file(2, 1, 2, &[0; 3])).contains("found 3. The file is cut off"));
        assert!(images_error(&images_file(2, 1, 2, &[0; 5])).contains("found more. The header"));
    }

    #[test]
    fn damaged_gzip_is_named() {
        let noise: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = gzip(&images_file(40, 10, 10, &noise));
        assert!(images_error(&whole[..whole.len() / 2]).contains("gzip data that ends after"));
        let mut wrong_sum = whole.clone();
        let crc = wrong_sum.len() - 8;
        wrong_sum[crc] ^= 1;
        assert!(
            images_error(&wrong_sum).contains("expected a sound gzip file"),
            "{}",
            images_error(&wrong_sum)
        );
        let trailing = [whole.as_slice(), b"more"].concat();
        assert!(
            images_error(&trailing).contains("expected a sound gzip file"),
            "{}",
            images_error(&trailing)
        );
        assert!(images_error(&gzip(&images_file(40, 10, 10, &[7; 4001]))).contains("found more"));
        assert!(images_error(&gzip(&images_file(40, 10, 10, &[7; 3999]))).contains("found 3999"));
    }

    #[test]
    fn absurd_announcements_fail_before_memory_is_taken() {
        let sides = u32::MAX;
        assert!(images_error(&images_file(sides, sides, sides, &[])).contains("at most 1073741824 bytes"));
        let large = images_file(1 << 20, 28, 28, &[]);
        assert!(images_error(&large).contains("which cannot hold them"));
        assert!(images_error(&gzip(&large)).contains("which cannot hold them"));
        // A bomb: far more content than the header announces. Only one byte too many is ever unpacked.
        assert!(images_error(&gzip(&images_file(1, 2, 2, &[0; 1 << 20]))).contains("found more"));
    }

    #[test]
    fn empty_mismatched_and_out_of_range() {
        assert!(images_error(&images_file(0, 28, 28, &[])).contains("found 0 images of 28 x 28"));
        assert!(images_error(&images_file(3, 0, 28, &[])).contains("found 3 images of 0 x 28"));
        let text = |result: Result<InMemory>| result.unwrap_err().to_string();
        assert!(
            text(open_pair(&images_file(1, 1, 1, &[0]), &labels_file(0, &[])))
                .contains("at least one label, found none")
        );
        assert_eq!(
            text(open_pair(&images_file(2, 1, 1, &[0, 0]), &labels_file(1, &[0]))),
            "pairing x-images with x-labels: expected 2 labels, one an image, found 1 labels. \
             Are the two files of the same split?"
        );
        assert_eq!(
            text(open_pair(&images_file(2, 1, 1, &[0, 0]), &labels_file(2, &[9, 10]))),
            "reading the labels of x-labels: expected labels below 10, the number of classes, \
             found label 10 at image 1"
        );
    }
}
