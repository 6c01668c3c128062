//! `--data`: from what the user names to a training and a test set.

mod folder;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use centripetal::data::idx::{self, Family};
use centripetal::data::synthetic::{Split, Synthetic};
use centripetal::data::{Dataset, InMemory, Source, cifar, embedded};
use centripetal::{Error, ErrorKind, Result};

use crate::args::Variation;

/// Every form of `--data`, for help and messages.
pub(crate) const FORMS: &str = "fashion-mnist:DIR, mnist:DIR, cifar10:DIR, cifar100:DIR, folder:DIR, \
    folder@SIDE:DIR, embedded or synthetic";

const SYNTHETIC_TRAIN: usize = 5000;
const SYNTHETIC_TEST: usize = 1000;

/// A training and a test set of the same shape and classes.
pub(crate) struct Splits {
    /// What to learn from.
    pub(crate) train: Arc<dyn Dataset>,
    /// What to test with.
    pub(crate) test: Arc<dyn Dataset>,
    /// What the user should be told, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Splits {
    fn new(train: InMemory, test: InMemory) -> Self {
        Splits { train: Arc::new(train), test: Arc::new(test), notes: Vec::new() }
    }
}

/// Opens the data set that `spec`, one of [`FORMS`], names. `seed` makes the synthetic one; `variation` tells whether the
/// images of a folder are needed as they are in their files.
///
/// # Errors
/// An unknown form, a missing folder or file (with what was looked for and what is there), and whatever the
/// readers say about the content.
pub(crate) fn open(spec: &str, variation: Variation, seed: u64) -> Result<Splits> {
    let unknown =
        || Error::new(ErrorKind::Argument, "reading --data").expected(FORMS).found(format!("{spec:?}"));
    let (form, path) = match spec.split_once(':') {
        Some((form, path)) if !path.is_empty() => (form, Some(Path::new(path))),
        Some((form, _)) => (form, None),
        None => (spec, None),
    };
    match (form, path) {
        ("embedded", None) => embedded().map(|(train, test)| Splits::new(train, test)),
        ("synthetic", None) => {
            let config = Synthetic { seed, ..Synthetic::default() };
            let train = config.generate(Split::Train, SYNTHETIC_TRAIN)?;
            Ok(Splits::new(train, config.generate(Split::Test, SYNTHETIC_TEST)?))
        }
        ("fashion-mnist", Some(dir)) => idx_folder(Family::FashionMnist, dir),
        ("mnist", Some(dir)) => idx_folder(Family::Mnist, dir),
        ("cifar10", Some(path)) => cifar10(path),
        ("cifar100", Some(path)) => cifar100(path),
        ("folder", Some(dir)) => folder::open(dir, None, variation, folder::BUDGET),
        (form, Some(dir)) => match form.strip_prefix("folder@").map(str::parse) {
            Some(Ok(side)) if side > 0 => folder::open(dir, Some(side), variation, folder::BUDGET),
            _ => Err(unknown()),
        },
        ("fashion-mnist" | "mnist" | "cifar10" | "cifar100" | "folder", None) => {
            Err(unknown().next(format!("Name the folder: {form}:DIR")))
        }
        _ => Err(unknown()),
    }
}

/// Opens the test images that `spec` names, and not the training images where those are other files; with notes.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_test(spec: &str, seed: u64) -> Result<(Arc<dyn Dataset>, Vec<String>)> {
    let alone =
        |test: InMemory| -> Result<(Arc<dyn Dataset>, Vec<String>)> { Ok((Arc::new(test), Vec::new())) };
    match spec.split_once(':').map(|(form, path)| (form, Path::new(path))) {
        Some(("fashion-mnist", dir)) if dir.is_dir() => alone(idx_split(Family::FashionMnist, dir, "t10k")?),
        Some(("mnist", dir)) if dir.is_dir() => alone(idx_split(Family::Mnist, dir, "t10k")?),
        Some(("cifar10", dir)) if dir.is_dir() => alone(cifar10_split(dir, &[cifar::CIFAR10_TEST])?),
        Some(("cifar100", dir)) if dir.is_dir() => alone(cifar100_split(dir, cifar::CIFAR100_TEST)?),
        _ => open(spec, Variation::None, seed).map(|splits| (splits.test, splits.notes)),
    }
}

fn idx_folder(family: Family, dir: &Path) -> Result<Splits> {
    Ok(Splits::new(idx_split(family, dir, "train")?, idx_split(family, dir, "t10k")?))
}

fn idx_split(family: Family, dir: &Path, split: &str) -> Result<InMemory> {
    let hint = match family {
        Family::FashionMnist => {
            "Debian's package dataset-fashion-mnist installs it to /usr/share/datasets/fashion-mnist; \
             or get the four files from https://github.com/zalandoresearch/fashion-mnist"
        }
        Family::Mnist => "The four files are wanted as they are published, gzip or not",
    };
    let mut files = Vec::new();
    for part in ["images-idx3", "labels-idx1"] {
        let name = format!("{split}-{part}-ubyte");
        // Some copies have a dot where the original has a hyphen.
        let dotted = name.replace("-idx", ".idx");
        let candidates = [&name, &dotted].map(|name| [name.clone(), format!("{name}.gz")]).concat();
        files.push(read(&find(family.name(), &[dir], &candidates, hint)?)?);
    }
    idx::dataset(family, files[0].source(), files[1].source())
}

fn cifar10(path: &Path) -> Result<Splits> {
    if path.is_file() {
        return both(path, |source| cifar::cifar10(&[source]));
    }
    Ok(Splits::new(cifar10_split(path, &cifar::CIFAR10_TRAIN)?, cifar10_split(path, &[cifar::CIFAR10_TEST])?))
}

fn cifar10_split(dir: &Path, names: &[&str]) -> Result<InMemory> {
    let hint = "Get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it";
    let dirs = [dir, &dir.join("cifar-10-batches-bin")];
    let open = |name: &&str| read(&find("CIFAR-10", &dirs, &[(*name).to_owned()], hint)?);
    let files: Vec<File> = names.iter().map(open).collect::<Result<_>>()?;
    let sources: Vec<Source> = files.iter().map(File::source).collect();
    cifar::cifar10(&sources)
}

fn cifar100(path: &Path) -> Result<Splits> {
    if path.is_file() {
        return both(path, cifar::cifar100);
    }
    Ok(Splits::new(cifar100_split(path, cifar::CIFAR100_TRAIN)?, cifar100_split(path, cifar::CIFAR100_TEST)?))
}

fn cifar100_split(dir: &Path, name: &str) -> Result<InMemory> {
    let hint = "Get cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it";
    let dirs = [dir, &dir.join("cifar-100-binary")];
    cifar::cifar100(read(&find("CIFAR-100", &dirs, &[name.to_owned()], hint)?)?.source())
}

/// One file as training and as test set.
fn both(path: &Path, parse: impl Fn(Source) -> Result<InMemory>) -> Result<Splits> {
    let data: Arc<dyn Dataset> = Arc::new(parse(read(path)?.source())?);
    let note = format!(
        "{} serves as training and as test set: its accuracy says nothing about images never seen",
        path.display()
    );
    Ok(Splits { train: Arc::clone(&data), test: data, notes: vec![note] })
}

/// The first of `names` in one of `dirs`.
fn find(data: &str, dirs: &[&Path], names: &[String], hint: &str) -> Result<PathBuf> {
    let candidates = || dirs.iter().flat_map(|dir| names.iter().map(|name| dir.join(name)));
    candidates().find(|path| path.is_file()).ok_or_else(|| {
        Error::new(ErrorKind::Io, format!("opening {data} in {}", dirs[0].display()))
            .expected(names.join(" or "))
            .found(holds(dirs[0]))
            .next(hint)
    })
}

/// What is in `dir` instead of what was looked for.
fn holds(dir: &Path) -> String {
    const SHOWN: usize = 6;
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return format!("no folder that can be read ({error})"),
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "an empty folder".to_owned(),
        (_, 0) => format!("only {}", names.join(", ")),
        (_, more) => format!("only {} and {more} more", names.join(", ")),
    }
}

struct File {
    name: String,
    bytes: Vec<u8>,
}

impl File {
    fn source(&self) -> Source<'_> {
        Source { name: &self.name, bytes: &self.bytes }
    }
}

fn read(path: &Path) -> Result<File> {
    let name = path.display().to_string();
    let error = || Error::new(ErrorKind::Io, format!("reading {name}"));
    let length = fs::metadata(path).map_err(|failure| error().found(failure))?.len();
    // The header of an IDX file comes on top of its content.
    if length > idx::CEILING + 16 {
        return Err(error().expected(format!("at most {} bytes", idx::CEILING)).found(format!("{length}")));
    }
    let bytes = fs::read(path).map_err(|failure| error().found(failure))?;
    Ok(File { name, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(spec: &str) -> String {
        open(spec, Variation::Auto, 1).err().expect("an error").to_string()
    }

    fn idx_file(magic: u32, sizes: &[u32], content: &[u8]) -> Vec<u8> {
        let words = std::iter::once(&magic).chain(sizes);
        words.flat_map(|word| word.to_be_bytes()).chain(content.iter().copied()).collect()
    }

    fn write_idx(dir: &Path, mark: char) {
        for (split, count) in [("train", 3u32), ("t10k", 2)] {
            let images = idx_file(2051, &[count, 2, 2], &vec![7; count as usize * 4]);
            fs::write(dir.join(format!("{split}-images{mark}idx3-ubyte")), images).unwrap();
            let labels = idx_file(2049, &[count], &vec![1; count as usize]);
            fs::write(dir.join(format!("{split}-labels{mark}idx1-ubyte")), labels).unwrap();
        }
    }

    #[test]
    fn idx_folders_with_hyphen_and_dot() {
        for (mark, form, class) in [('-', "fashion-mnist", "Trouser"), ('.', "mnist", "1")] {
            let dir = tempfile::tempdir().unwrap();
            write_idx(dir.path(), mark);
            let splits = open(&format!("{form}:{}", dir.path().display()), Variation::Auto, 1).unwrap();
            assert_eq!((splits.train.len(), splits.test.len(), splits.train.shape()), (3, 2, [1, 2, 2]));
            assert_eq!(splits.test.classes()[splits.test.label(1) as usize], class);
        }
    }

    #[test]
    fn missing_files_say_what_was_looked_for_and_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let spec = format!("fashion-mnist:{}", dir.path().display());
        assert!(text(&spec).contains("found an empty folder"), "{}", text(&spec));
        write_idx(dir.path(), '-');
        fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte")).unwrap();
        let message = text(&spec);
        assert!(
            message.contains(
                "expected t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz or t10k-labels.idx1-ubyte or \
                 t10k-labels.idx1-ubyte.gz, found only t10k-images-idx3-ubyte, train-images-idx3-ubyte, \
                 train-labels-idx1-ubyte. Debian's package dataset-fashion-mnist installs it to \
                 /usr/share/datasets/fashion-mnist"
            ),
            "{message}"
        );
        let message = text(&format!("cifar10:{}", dir.path().join("nowhere").display()));
        assert!(
            message.contains("expected data_batch_1.bin, found no folder that can be read ("),
            "{message}"
        );
        assert!(message.contains("cifar-10-binary.tar.gz"), "{message}");
        assert!(text("cifar100:/nowhere").contains("cifar-100-binary.tar.gz"));
    }

    #[test]
    fn bad_content_is_named_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        write_idx(dir.path(), '-');
        let labels = dir.path().join("train-labels-idx1-ubyte");
        fs::copy(dir.path().join("train-images-idx3-ubyte"), &labels).unwrap();
        let message = text(&format!("mnist:{}", dir.path().display()));
        assert!(message.starts_with(&format!("reading the labels of {}", labels.display())), "{message}");
    }

    #[test]
    fn cifar10_from_either_folder() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("cifar-10-batches-bin");
        fs::create_dir(&inner).unwrap();
        for (label, name) in (0u8..).zip(cifar::CIFAR10_TRAIN.iter().chain([&cifar::CIFAR10_TEST])) {
            fs::write(inner.join(name), [vec![label], vec![label; 3072]].concat()).unwrap();
        }
        for path in [dir.path(), &inner] {
            let splits = open(&format!("cifar10:{}", path.display()), Variation::Auto, 1).unwrap();
            assert_eq!((splits.train.len(), splits.test.len()), (5, 1));
            assert_eq!((splits.train.label(4), splits.test.label(0)), (4, 5));
            assert!(splits.notes.is_empty());
        }
    }

    #[test]
    fn one_cifar_file_serves_as_both_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("some.bin");
        fs::write(&file, vec![1; 2 * 3073]).unwrap();
        let splits = open(&format!("cifar10:{}", file.display()), Variation::Auto, 1).unwrap();
        assert_eq!((splits.train.len(), splits.test.len(), splits.notes.len()), (2, 2, 1));
        assert!(splits.notes[0].contains("as training and as test set"), "{}", splits.notes[0]);
        let message = text(&format!("cifar100:{}", file.display()));
        assert!(message.contains("This looks like CIFAR-10"), "{message}");
    }

    #[test]
    fn cifar100_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in [cifar::CIFAR100_TRAIN, cifar::CIFAR100_TEST] {
            fs::write(dir.path().join(name), [vec![3, 42], vec![0; 3072]].concat()).unwrap();
        }
        let splits = open(&format!("cifar100:{}", dir.path().display()), Variation::Auto, 1).unwrap();
        assert_eq!((splits.train.label(0), splits.test.classes().len()), (42, 100));
    }

    #[test]
    fn what_needs_no_files() {
        let splits = open("embedded", Variation::Auto, 1).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (5000, 1000));
        let first = |seed| {
            let splits = open("synthetic", Variation::Auto, seed).unwrap();
            let mut image = vec![0; splits.train.shape().iter().product()];
            splits.train.image(0, &mut image).unwrap();
            image
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn unknown_forms_list_the_known_ones() {
        for spec in ["imagenet:DIR", "", "embedded:DIR", "folder@0:DIR", "folder@x:DIR"] {
            assert!(text(spec).contains("cifar10:DIR"), "{}", text(spec));
        }
        assert!(text("mnist").ends_with("found \"mnist\". Name the folder: mnist:DIR"));
        assert!(text("mnist:").ends_with("Name the folder: mnist:DIR"));
    }
}
