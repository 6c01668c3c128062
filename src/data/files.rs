//! A data set from files that a user picked, whatever they are: recognised by content, paired by name.
//!
//! IDX: images and labels of one split (a sixth of it then is the test set) or of both. CIFAR-10 and CIFAR-100 in their
//! binary version: any of their files.

use std::sync::Arc;

use super::idx::{self, Content, Family};
use super::{Dataset, InMemory, Source, Subset, cifar};
use crate::error::{Error, ErrorKind, Result};

/// Where there is no test split, every so many-th image of the training split is one.
const HELD_OUT: usize = 6;

/// What the user should have picked.
const FORMS: &str = "the IDX files of MNIST or Fashion-MNIST, or the binary files of CIFAR-10 or CIFAR-100";

/// A training and a test set of the same shape and classes.
#[derive(Clone)]
pub struct Splits {
    /// What to learn from.
    pub train: Arc<dyn Dataset>,
    /// What to test with.
    pub test: Arc<dyn Dataset>,
}

/// Reads `files`, in any order.
///
/// # Errors
/// [`ErrorKind::Data`] for files that are no data set of these or not a whole one, and those of the readers.
pub fn open(files: &[Source]) -> Result<Splits> {
    let doing = || format!("reading {}", listed(files));
    if files.is_empty() {
        return Err(Error::new(ErrorKind::Data, "reading a data set").expected(FORMS).found("no files"));
    }
    let contents: Vec<Option<Content>> = files.iter().map(|&file| idx::content(file)).collect();
    if contents.iter().any(Option::is_some) {
        if let Some(stranger) = contents.iter().position(Option::is_none) {
            return Err(Error::new(ErrorKind::Data, doing())
                .expected("IDX files alone")
                .found(format!("{}, which is none", files[stranger].name))
                .next("Pick images and labels of one data set"));
        }
        return idx_files(files, &contents);
    }
    let named = |name: &str| files.iter().copied().find(|file| base_name(file.name) == name);
    let parts = |names: &[&str]| names.iter().filter_map(|name| named(name)).collect::<Vec<_>>();
    let ten = parts(&cifar::CIFAR10_TRAIN);
    match (ten.as_slice(), named(cifar::CIFAR10_TEST)) {
        ([], None) => {}
        ([], Some(test)) => return split(cifar::cifar10(&[test])?),
        (train, None) => return split(cifar::cifar10(train)?),
        (train, Some(test)) => return Ok(both(cifar::cifar10(train)?, cifar::cifar10(&[test])?)),
    }
    match (named(cifar::CIFAR100_TRAIN), named(cifar::CIFAR100_TEST)) {
        (None, None) => {}
        (Some(one), None) | (None, Some(one)) => return split(cifar::cifar100(one)?),
        (Some(train), Some(test)) => return Ok(both(cifar::cifar100(train)?, cifar::cifar100(test)?)),
    }
    Err(Error::new(ErrorKind::Data, doing())
        .expected(FORMS)
        .found("files of another kind")
        .next("Pick the files as they are published, gzip or not"))
}

/// One data set as two: every sixth image is held out for testing.
///
/// # Errors
/// [`ErrorKind::Data`] for fewer than two images.
pub fn split(whole: InMemory) -> Result<Splits> {
    let whole: Arc<dyn Dataset> = Arc::new(whole);
    if whole.len() < 2 {
        return Err(Error::new(ErrorKind::Data, format!("splitting {}", whole.name()))
            .expected("at least two images, one to learn from and one to test with")
            .found(whole.len()));
    }
    let every = HELD_OUT.min(whole.len());
    let (test, train): (Vec<usize>, Vec<usize>) = (0..whole.len()).partition(|i| i % every == every - 1);
    Ok(Splits {
        train: Arc::new(Subset::new(Arc::clone(&whole), train)?),
        test: Arc::new(Subset::new(whole, test)?),
    })
}

fn both(train: InMemory, test: InMemory) -> Splits {
    Splits { train: Arc::new(train), test: Arc::new(test) }
}

fn idx_files(files: &[Source], contents: &[Option<Content>]) -> Result<Splits> {
    let of = |wanted: Content| -> Vec<Source<'_>> {
        files.iter().zip(contents).filter(|(_, c)| **c == Some(wanted)).map(|(file, _)| *file).collect()
    };
    let (images, labels) = (of(Content::Images), of(Content::Labels));
    let error = || {
        Error::new(ErrorKind::Data, format!("reading {}", listed(files)))
            .found(format!("{} files of images and {} of labels", images.len(), labels.len()))
            .next("Pick both files of a split, or all four of the data set")
    };
    let fashion = |pixels: &[u8]| {
        // The two have no mark of their own. Fashion fills its frames; digits leave theirs black.
        let bright = pixels.iter().filter(|&&pixel| pixel > 0).count();
        bright as f64 > 0.35 * pixels.len() as f64
    };
    let read = |images: Source, labels: Source, family: Family| idx::dataset(family, images, labels);
    let family = |images: Source| -> Result<Family> {
        let (_, pixels) = idx::images(images)?;
        Ok(if fashion(&pixels) { Family::FashionMnist } else { Family::Mnist })
    };
    match (images.as_slice(), labels.as_slice()) {
        (&[images], &[labels]) => split(read(images, labels, family(images)?)?),
        (&[a, b], &[c, d]) => {
            let is_test = |file: Source| {
                let name = base_name(file.name).to_ascii_lowercase();
                name.starts_with("t10k") || name.contains("test")
            };
            let order = |a, b| match (is_test(a), is_test(b)) {
                (false, true) => Ok((a, b)),
                (true, false) => Ok((b, a)),
                _ => Err(error().expected("one split of each pair named t10k or test")),
            };
            let ((train_images, test_images), (train_labels, test_labels)) = (order(a, b)?, order(c, d)?);
            let family = family(train_images)?;
            let sets =
                both(read(train_images, train_labels, family)?, read(test_images, test_labels, family)?);
            if sets.train.shape() != sets.test.shape() {
                return Err(Error::new(ErrorKind::Data, format!("pairing {}", listed(files)))
                    .expected(format!("test images of {:?} as in training", sets.train.shape()))
                    .found(format!("{:?}", sets.test.shape())));
            }
            Ok(sets)
        }
        _ => Err(error().expected("one file of images and one of labels for each split")),
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// The names, a few of them if they are many.
fn listed(files: &[Source]) -> String {
    let names: Vec<&str> = files.iter().take(4).map(|file| base_name(file.name)).collect();
    let rest = files.len() - names.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idx_file(magic: u32, sizes: &[u32], content: &[u8]) -> Vec<u8> {
        let header = std::iter::once(magic).chain(sizes.iter().copied()).flat_map(u32::to_be_bytes);
        header.chain(content.iter().copied()).collect()
    }

    fn named<'a>(names: &[&'a str], bytes: &'a [Vec<u8>]) -> Vec<Source<'a>> {
        names.iter().zip(bytes).map(|(name, bytes)| Source { name, bytes }).collect()
    }

    fn message(files: &[Source]) -> String {
        open(files).err().expect("an error").to_string()
    }

    #[test]
    fn four_idx_files_in_any_order() {
        let images = |n: u32, pixel: u8| idx_file(2051, &[n, 2, 2], &vec![pixel; 4 * n as usize]);
        let labels = |n: u32| idx_file(2049, &[n], &vec![1; n as usize]);
        let bytes = [labels(2), images(3, 0), images(2, 0), labels(3)];
        let names = ["x/t10k-labels", "x/train-images", "t10k-images", "train-labels"];
        let sets = open(&named(&names, &bytes)).unwrap();
        assert_eq!((sets.train.name(), sets.train.len(), sets.test.len()), ("MNIST", 3, 2));
        let bright = [images(12, 200), labels(12)];
        let sets = open(&named(&["images", "labels"], &bright)).unwrap();
        assert_eq!((sets.train.name(), sets.train.len(), sets.test.len()), ("Fashion-MNIST", 10, 2));
    }

    #[test]
    fn cifar_by_the_names_of_its_files() {
        let ten = vec![vec![1; 3073], vec![2; 2 * 3073]];
        let sets = open(&named(&["test_batch.bin", "dir/data_batch_3.bin"], &ten)).unwrap();
        assert_eq!((sets.train.name(), sets.train.len(), sets.test.len()), ("CIFAR-10", 2, 1));
        let hundred = vec![vec![1; 4 * 3074]];
        let sets = open(&named(&["train.bin"], &hundred)).unwrap();
        assert_eq!((sets.train.name(), sets.train.len(), sets.test.len()), ("CIFAR-100", 3, 1));
    }

    #[test]
    fn what_is_no_data_set_is_named_with_what_would_be() {
        let text = vec![b"hello".to_vec()];
        let found = message(&named(&["notes.txt"], &text));
        assert!(
            found.starts_with("reading notes.txt: expected the IDX files") && found.contains("CIFAR"),
            "{found}"
        );
        let lonely = vec![idx_file(2051, &[1, 2, 2], &[0; 4])];
        assert!(message(&named(&["train-images"], &lonely)).contains("1 files of images and 0 of labels"));
        let cut = vec![idx_file(2051, &[9, 2, 2], &[0; 4]), idx_file(2049, &[9], &[0; 9])];
        assert!(message(&named(&["train-images", "train-labels"], &cut)).contains("train-images"));
        assert!(message(&[]).contains("no files"));
    }
}
