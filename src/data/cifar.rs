//! The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009), <https://www.cs.toronto.edu/~kriz/cifar.html>.
//!
//! A file is a row of records: the label byte (CIFAR-100: the coarse label, then the fine one), then 1,024
//! bytes each of red, green and blue. There is no header.

use super::memory::check_labels;
use super::{InMemory, Normalization, Source, names};
use crate::error::{Error, ErrorKind, Result};

const SHAPE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// The training files of CIFAR-10, 10,000 images each.
pub const CIFAR10_TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// The test file of CIFAR-10, 10,000 images.
pub const CIFAR10_TEST: &str = "test_batch.bin";
/// The training file of CIFAR-100, 50,000 images.
pub const CIFAR100_TRAIN: &str = "train.bin";
/// The test file of CIFAR-100, 10,000 images.
pub const CIFAR100_TEST: &str = "test.bin";

const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Separated by blanks; no name holds one.
const CIFAR100_CLASSES: &str = "\
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly \
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup \
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower \
    leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid \
    otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray \
    road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar \
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle \
    wardrobe whale willow_tree wolf woman worm";

const COARSE_CLASSES: usize = 20;

/// CIFAR-10 from any number of its files, in order.
///
/// The statistics are those of ImageNet (.485 .456 .406 and .229 .224 .225), not CIFAR-10's own (.4914 .4822
/// .4465 and .2470 .2435 .2616): the public pretrained CIFAR ResNets (akamaster/pytorch_resnet_cifar10) were
/// trained with them, and a network trained from scratch does not mind. Others can be set with
/// [`InMemory::with_normalization`].
///
/// # Errors
/// No file, an empty file, a length that is no multiple of a record, a label above 9.
pub fn cifar10(files: &[Source]) -> Result<InMemory> {
    let normalization = Normalization { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] };
    let (images, labels) = read(files, &[("label", CIFAR10_CLASSES.len())])?;
    InMemory::new("CIFAR-10", SHAPE, names(&CIFAR10_CLASSES), images, labels, normalization)
}

/// CIFAR-100 with its 100 fine labels; the 20 coarse ones are checked and dropped.
///
/// The statistics are its own: .5071 .4865 .4409 and .2673 .2564 .2762.
///
/// # Errors
/// An empty file, a length that is no multiple of a record, a label that is out of range.
pub fn cifar100(file: Source) -> Result<InMemory> {
    let normalization =
        Normalization { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] };
    let classes: Vec<String> = CIFAR100_CLASSES.split_whitespace().map(str::to_owned).collect();
    let prefix = [("coarse label", COARSE_CLASSES), ("fine label", classes.len())];
    let (images, labels) = read(&[file], &prefix)?;
    InMemory::new("CIFAR-100", SHAPE, classes, images, labels, normalization)
}

/// Splits records into pixels and the last of the label bytes named in `prefix` with their numbers of classes.
fn read(files: &[Source], prefix: &[(&str, usize)]) -> Result<(Vec<u8>, Vec<u32>)> {
    let record = prefix.len() + PIXELS;
    let count: usize = files.iter().map(|file| file.bytes.len() / record).sum();
    let mut images = Vec::with_capacity(count * PIXELS);
    let mut labels = Vec::with_capacity(count);
    for file in files {
        check_length(*file, record)?;
        let records = || file.bytes.chunks_exact(record);
        for (byte, &(what, classes)) in prefix.iter().enumerate() {
            let column: Vec<u32> = records().map(|record| u32::from(record[byte])).collect();
            check_labels(&format!("reading the {what}s of {}", file.name), &column, classes)?;
            if byte + 1 == prefix.len() {
                labels.extend(column);
            }
        }
        for record in records() {
            images.extend_from_slice(&record[prefix.len()..]);
        }
    }
    Ok((images, labels))
}

fn check_length(file: Source, record: usize) -> Result<()> {
    let Source { name, bytes } = file;
    if !bytes.is_empty() && bytes.len() % record == 0 {
        return Ok(());
    }
    let error = Error::new(ErrorKind::Format, format!("reading {name}"))
        .expected(format!("one or more records of {record} bytes"))
        .found(format!("{} bytes", bytes.len()));
    // The two layouts differ by one byte a record.
    let other = if record == PIXELS + 1 { (PIXELS + 2, "CIFAR-100") } else { (PIXELS + 1, "CIFAR-10") };
    Err(if bytes.is_empty() {
        error
    } else if bytes.starts_with(&[0x1f, 0x8b]) {
        error.next("This is a gzip archive: unpack it first (tar xzf)")
    } else if bytes.starts_with(&[0x80]) && bytes.ends_with(b".") {
        error.next("This looks like the Python version: download the binary version")
    } else if bytes.len() % other.0 == 0 {
        error.next(format!("This looks like {}", other.1))
    } else {
        error.next("The file is cut off or no CIFAR file in the binary version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn record(labels: &[u8], first_pixel: u8) -> Vec<u8> {
        let pixels = (0..PIXELS).map(|i| first_pixel.wrapping_add((i / 1024) as u8));
        labels.iter().copied().chain(pixels).collect()
    }

    fn source(bytes: &[u8]) -> Source<'_> {
        Source { name: "x.bin", bytes }
    }

    fn error10(bytes: &[u8]) -> String {
        cifar10(&[source(bytes)]).unwrap_err().to_string()
    }

    #[test]
    fn cifar10_concatenates_its_files() {
        let (first, second) = ([record(&[9], 10), record(&[0], 20)].concat(), record(&[3], 30));
        let data = cifar10(&[source(&first), source(&second)]).unwrap();
        let mut image = [0; PIXELS];
        data.image(2, &mut image).unwrap();
        assert_eq!([image[0], image[1024], image[PIXELS - 1]], [30, 31, 32]);
        let labels: Vec<&str> = (0..3).map(|i| data.classes()[data.label(i) as usize].as_str()).collect();
        assert_eq!(labels, ["truck", "airplane", "cat"]);
    }

    #[test]
    fn cifar100_takes_the_fine_label() {
        let file = [record(&[19, 99], 1), record(&[0, 1], 5)].concat();
        let data = cifar100(source(&file)).unwrap();
        let mut image = [0; PIXELS];
        data.image(1, &mut image).unwrap();
        assert_eq!((data.label(0), data.label(1), image[0]), (99, 1, 5));
        assert_eq!(data.classes()[99], "worm");
    }

    #[test]
    fn class_names_are_sorted_and_unique() {
        // Both data sets number their classes alphabetically, so a slip in a list shows here.
        assert!(CIFAR10_CLASSES.is_sorted_by(|a, b| a < b));
        let hundred: Vec<&str> = CIFAR100_CLASSES.split_whitespace().collect();
        assert!(hundred.len() == 100 && hundred.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn bad_files_are_named_with_a_guess_at_what_they_are() {
        let one = record(&[0], 0);
        assert_eq!(
            error10(&one[..3000]),
            "reading x.bin: expected one or more records of 3073 bytes, found 3000 bytes. \
             The file is cut off or no CIFAR file in the binary version"
        );
        assert!(error10(&[]).ends_with("found 0 bytes"));
        assert!(error10(&record(&[0, 0], 0)).ends_with("This looks like CIFAR-100"));
        assert!(error10(&[0x1f, 0x8b, 8]).contains("unpack it first"));
        assert!(error10(b"\x80\x02}q\x01.").contains("download the binary version"));
        assert!(cifar100(source(&one)).unwrap_err().to_string().ends_with("This looks like CIFAR-10"));
        assert!(cifar10(&[]).unwrap_err().to_string().contains("at least one image"));
    }

    #[test]
    fn labels_out_of_range_are_placed() {
        assert_eq!(
            error10(&[record(&[0], 0), record(&[10], 0)].concat()),
            "reading the labels of x.bin: expected labels below 10, the number of classes, \
             found label 10 at image 1"
        );
        let error = |labels| cifar100(source(&record(labels, 0))).unwrap_err().to_string();
        assert!(error(&[20, 0]).contains("coarse labels of x.bin: expected labels below 20"));
        assert!(error(&[0, 100]).contains("fine labels of x.bin: expected labels below 100"));
    }
}
