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
use unicode_normalization::UnicodeNormalization;

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

/// What a text of `--data` asks for.
enum Form<'a> {
    Embedded,
    Synthetic,
    Idx(Family, &'a Path),
    Cifar10(&'a Path),
    Cifar100(&'a Path),
    Folder(&'a Path, Option<usize>),
}

impl Form<'_> {
    /// The form that `spec` has; else what was expected.
    fn of(spec: &str) -> std::result::Result<Form<'_>, String> {
        let unknown = || format!("expected {FORMS}");
        let (form, path) = match spec.split_once(':') {
            Some((form, path)) if !path.is_empty() => (form, Some(Path::new(path))),
            Some((form, _)) => (form, None),
            None => (spec, None),
        };
        let side = form.strip_prefix("folder@").map(str::parse::<usize>);
        match (form, path) {
            ("embedded", None) => Ok(Form::Embedded),
            ("synthetic", None) => Ok(Form::Synthetic),
            ("fashion-mnist", Some(dir)) => Ok(Form::Idx(Family::FashionMnist, dir)),
            ("mnist", Some(dir)) => Ok(Form::Idx(Family::Mnist, dir)),
            ("cifar10", Some(path)) => Ok(Form::Cifar10(path)),
            ("cifar100", Some(path)) => Ok(Form::Cifar100(path)),
            ("folder", Some(dir)) => Ok(Form::Folder(dir, None)),
            (_, Some(dir)) => match side {
                Some(Ok(side)) if (1..=LARGEST_SIDE).contains(&side) => Ok(Form::Folder(dir, Some(side))),
                Some(_) => Err(format!("expected a SIDE from 1 to {LARGEST_SIDE} in folder@SIDE:DIR")),
                None => Err(unknown()),
            },
            ("fashion-mnist" | "mnist" | "cifar10" | "cifar100" | "folder", None) => {
                Err(format!("expected a folder: {form}:DIR"))
            }
            (_, None) if side.is_some() => Err("expected a folder: folder@SIDE:DIR".to_owned()),
            (_, None) => Err(unknown()),
        }
    }
}

/// Most pixels that a side of an image may have.
const LARGEST_SIDE: usize = 4096;

/// `spec` if it is one of [`FORMS`], so that anything else is wrong usage; for the command line.
pub(crate) fn form(spec: &str) -> std::result::Result<String, String> {
    Form::of(spec).map(|_| spec.to_owned())
}

/// `name` with composed characters (NFC): systems write one name in different ways.
pub(crate) fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// Opens the data set that `spec`, one of [`FORMS`], names. `seed` makes the synthetic one; `variation` tells whether the
/// images of a folder are needed as they are in their files.
///
/// # Errors
/// An unknown form, a missing folder or file (with what was looked for and what is there), and whatever the
/// readers say about the content.
pub(crate) fn open(spec: &str, variation: Variation, seed: u64) -> Result<Splits> {
    match known_form(spec)? {
        Form::Embedded => embedded().map(|(train, test)| Splits::new(train, test)),
        Form::Synthetic => {
            let config = Synthetic { seed, ..Synthetic::default() };
            let train = config.generate(Split::Train, SYNTHETIC_TRAIN)?;
            Ok(Splits::new(train, config.generate(Split::Test, SYNTHETIC_TEST)?))
        }
        Form::Idx(family, dir) => IdxFiles::find(family, dir)?.open(family),
        Form::Cifar10(path) if path.is_file() => both(path, |source| cifar::cifar10(&[source])),
        Form::Cifar100(path) if path.is_file() => both(path, cifar::cifar100),
        Form::Cifar10(dir) => CifarFiles::find(&CIFAR10, dir)?.open(&CIFAR10),
        Form::Cifar100(dir) => CifarFiles::find(&CIFAR100, dir)?.open(&CIFAR100),
        Form::Folder(dir, side) => folder::open(dir, side, variation, folder::BUDGET),
    }
}

fn known_form(spec: &str) -> Result<Form<'_>> {
    let unknown = |expected| {
        Error::new(ErrorKind::Argument, "reading --data").expected(expected).found(format!("{spec:?}"))
    };
    Form::of(spec).map_err(|expected| unknown(expected.trim_start_matches("expected ").to_owned()))
}

/// Opens the test images that `spec` names, and not the training images where those are other files; with notes.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_test(spec: &str, seed: u64) -> Result<(Arc<dyn Dataset>, Vec<String>)> {
    let (test, notes): (InMemory, Vec<String>) = match known_form(spec)? {
        Form::Idx(family, dir) => {
            let (files, notes) = IdxFiles::test(family, dir)?;
            (IdxFiles::split(family, &files)?, notes)
        }
        Form::Cifar10(dir) if !dir.is_file() => CifarFiles::test(&CIFAR10, dir)?,
        Form::Cifar100(dir) if !dir.is_file() => CifarFiles::test(&CIFAR100, dir)?,
        _ => return open(spec, Variation::None, seed).map(|splits| (splits.test, splits.notes)),
    };
    Ok((Arc::new(test), notes))
}

/// Images and labels of both splits.
struct IdxFiles {
    train: [PathBuf; 2],
    test: [PathBuf; 2],
    notes: Vec<String>,
}

impl IdxFiles {
    /// Images and labels of `split` in `dir`, by their names.
    fn named(family: Family, dir: &Path, split: &str) -> [Result<PathBuf>; 2] {
        let hint = match family {
            Family::FashionMnist => {
                "Debian's package dataset-fashion-mnist installs it to /usr/share/datasets/fashion-mnist; \
                 or get the four files from https://github.com/zalandoresearch/fashion-mnist"
            }
            Family::Mnist => "The four files are wanted as they are published, gzip or not",
        };
        let candidates = |part: &str| {
            let name = format!("{split}-{part}-ubyte");
            // Some copies have a dot where the original has a hyphen.
            let dotted = name.replace("-idx", ".idx");
            [&name, &dotted].map(|name| [name.clone(), format!("{name}.gz")]).concat()
        };
        ["images-idx3", "labels-idx1"].map(|part| find(family.name(), &[dir], &candidates(part), hint))
    }

    /// The four files in `dir`: by their names, or by their content where none of them has its name.
    fn find(family: Family, dir: &Path) -> Result<IdxFiles> {
        if dir.is_file() {
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            return Err(Error::new(ErrorKind::Io, format!("opening {} in {}", family.name(), dir.display()))
                .expected("the folder of its four files, two of images and two of labels")
                .found("a file")
                .next(format!("Name its folder: {}", parent.unwrap_or(Path::new(".")).display())));
        }
        let [train, test] = ["train", "t10k"].map(|split| IdxFiles::named(family, dir, split));
        if train.iter().chain(&test).all(Result::is_err)
            && let Some(files) = IdxFiles::by_content(dir)?
        {
            return Ok(files);
        }
        let both =
            |[images, labels]: [Result<PathBuf>; 2]| -> Result<[PathBuf; 2]> { Ok([images?, labels?]) };
        Ok(IdxFiles { train: both(train)?, test: both(test)?, notes: Vec::new() })
    }

    /// Images and labels for testing in `dir`, which need not hold those for training; with notes.
    fn test(family: Family, dir: &Path) -> Result<([PathBuf; 2], Vec<String>)> {
        match IdxFiles::named(family, dir, "t10k") {
            [Ok(images), Ok(labels)] => Ok(([images, labels], Vec::new())),
            [images, labels] => match IdxFiles::find(family, dir) {
                Ok(files) => Ok((files.test, files.notes)),
                // What is missing of training images is not missed here.
                Err(error) => {
                    Err(if dir.is_file() { error } else { images.and(labels).err().unwrap_or(error) })
                }
            },
        }
    }

    /// The only four IDX files in `dir`, if it is clear which are for testing: by their names, or 10,000 beside 60,000.
    fn by_content(dir: &Path) -> Result<Option<IdxFiles>> {
        const TEST: usize = 10_000;
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for path in files_in(dir) {
            let Ok(file) = read(&path) else { continue };
            match idx::content(file.source()) {
                Some(idx::Content::Images) => images.push((idx::images(file.source())?.0[0], path)),
                Some(idx::Content::Labels) => labels.push((idx::labels(file.source())?.len(), path)),
                None => {}
            }
        }
        let (Ok(mut images), Ok(mut labels)) = (<[_; 2]>::try_from(images), <[_; 2]>::try_from(labels))
        else {
            return Ok(None);
        };
        for pair in [&mut images, &mut labels] {
            let named = pair.each_ref().map(|(_, path)| is_test(path));
            let counted = pair.each_ref().map(|&(count, _)| count == TEST);
            match if named[0] != named[1] { named } else { counted } {
                [false, true] => {}
                [true, false] => pair.reverse(),
                _ => return Ok(None),
            }
        }
        let names: Vec<String> =
            [&images, &labels].map(|pair| pair.each_ref().map(|(_, path)| short(path))).concat();
        let note = format!(
            "Told by their content: {} and {} for training, {} and {} for testing",
            names[0], names[2], names[1], names[3]
        );
        let ([train_images, test_images], [train_labels, test_labels]) = (images, labels);
        Ok(Some(IdxFiles {
            train: [train_images.1, train_labels.1],
            test: [test_images.1, test_labels.1],
            notes: vec![note],
        }))
    }

    fn split(family: Family, [images, labels]: &[PathBuf; 2]) -> Result<InMemory> {
        idx::dataset(family, read(images)?.source(), read(labels)?.source())
    }

    fn open(self, family: Family) -> Result<Splits> {
        let (train, test) = (IdxFiles::split(family, &self.train)?, IdxFiles::split(family, &self.test)?);
        Ok(Splits { notes: self.notes, ..Splits::new(train, test) })
    }
}

/// One of the two CIFAR data sets in their binary versions.
struct Cifar {
    name: &'static str,
    folder: &'static str,
    train: &'static [&'static str],
    test: &'static str,
    hint: &'static str,
    read: fn(&[PathBuf]) -> Result<InMemory>,
}

static CIFAR10: Cifar = Cifar {
    name: "CIFAR-10",
    folder: "cifar-10-batches-bin",
    train: &cifar::CIFAR10_TRAIN,
    test: cifar::CIFAR10_TEST,
    hint: "Get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    read: |paths| {
        let files: Vec<File> = paths.iter().map(|path| read(path)).collect::<Result<_>>()?;
        let sources: Vec<Source> = files.iter().map(File::source).collect();
        cifar::cifar10(&sources)
    },
};

static CIFAR100: Cifar = Cifar {
    name: "CIFAR-100",
    folder: "cifar-100-binary",
    train: &[cifar::CIFAR100_TRAIN],
    test: cifar::CIFAR100_TEST,
    hint: "Get cifar-100-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it",
    read: |paths| match paths {
        [path] => cifar::cifar100(read(path)?.source()),
        _ => Err(Error::new(ErrorKind::Data, "reading CIFAR-100")
            .expected("one file a split")
            .found(paths.len())),
    },
};

/// The files of a CIFAR data set.
struct CifarFiles {
    train: Vec<PathBuf>,
    test: Vec<PathBuf>,
    notes: Vec<String>,
}

impl CifarFiles {
    /// The file `name` in `dir` or in the folder that the archive makes.
    fn named(data: &Cifar, dir: &Path, name: &str) -> Result<PathBuf> {
        find(data.name, &[dir, &dir.join(data.folder)], &[name.to_owned()], data.hint)
    }

    /// The files in `dir`: by their names, or by their content where none of them has its name.
    fn find(data: &Cifar, dir: &Path) -> Result<CifarFiles> {
        let train: Vec<Result<PathBuf>> =
            data.train.iter().map(|name| CifarFiles::named(data, dir, name)).collect();
        let test = CifarFiles::named(data, dir, data.test);
        if train.iter().chain([&test]).all(Result::is_err)
            && let Some(files) = CifarFiles::by_content(data, &[dir, &dir.join(data.folder)])
        {
            return Ok(files);
        }
        Ok(CifarFiles {
            train: train.into_iter().collect::<Result<_>>()?,
            test: vec![test?],
            notes: Vec::new(),
        })
    }

    /// The images for testing in `dir`, which need not hold those for training; with notes.
    fn test(data: &Cifar, dir: &Path) -> Result<(InMemory, Vec<String>)> {
        let (paths, notes) = match CifarFiles::named(data, dir, data.test) {
            Ok(path) => (vec![path], Vec::new()),
            // What is missing of training images is not missed here.
            Err(missing) => {
                let files = CifarFiles::find(data, dir).map_err(|_| missing)?;
                (files.test, files.notes)
            }
        };
        Ok(((data.read)(&paths)?, notes))
    }

    /// All files of whole records with labels of these classes, if one of them alone is named for testing.
    fn by_content(data: &Cifar, dirs: &[&Path]) -> Option<CifarFiles> {
        let paths = dirs
            .iter()
            .flat_map(|dir| files_in(dir))
            .filter(|path| (data.read)(std::slice::from_ref(path)).is_ok());
        let (test, train): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|path| is_test(path));
        if test.len() != 1 || train.is_empty() || train.len() > data.train.len() {
            return None;
        }
        let names: Vec<String> = train.iter().map(|path| short(path)).collect();
        let note = format!(
            "Told by their content: {} for training, {} for testing",
            names.join(", "),
            short(&test[0])
        );
        Some(CifarFiles { train, test, notes: vec![note] })
    }

    fn open(self, data: &Cifar) -> Result<Splits> {
        let (train, test) = ((data.read)(&self.train)?, (data.read)(&self.test)?);
        Ok(Splits { notes: self.notes, ..Splits::new(train, test) })
    }
}

/// The files of `dir` that are not hidden, sorted; none where it cannot be listed.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.is_file() && !short(path).starts_with('.')).collect();
    files.sort_unstable();
    files
}

/// The name of a file without its folders.
fn short(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file is named as one of a test split.
fn is_test(path: &Path) -> bool {
    let name = short(path).to_lowercase();
    ["test", "t10k", "val"].iter().any(|word| name.contains(word)) && !name.contains("train")
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
        for spec in ["imagenet:DIR", "", "embedded:DIR", "nosuch", "/data/pictures"] {
            assert!(text(spec).contains("cifar10:DIR"), "{}", text(spec));
            assert!(form(spec).is_err());
        }
        for spec in ["folder@0:DIR", "folder@x:DIR", "folder@-3:DIR", "folder@99999:DIR"] {
            assert!(text(spec).contains("a SIDE from 1 to 4096"), "{}", text(spec));
        }
        assert!(text("folder@32").contains("expected a folder: folder@SIDE:DIR"));
        for spec in ["mnist", "mnist:"] {
            assert!(
                text(spec).ends_with(&format!("expected a folder: mnist:DIR, found {spec:?}")),
                "{}",
                text(spec)
            );
        }
    }

    #[test]
    fn files_of_other_names_are_told_by_their_content() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (split, count) in [("my_train", 3u32), ("my_test", 2)] {
            let images = idx_file(2051, &[count, 2, 2], &vec![7; count as usize * 4]);
            fs::write(at(&format!("{split}_a")), images).unwrap();
            fs::write(at(&format!("{split}_b")), idx_file(2049, &[count], &vec![1; count as usize])).unwrap();
        }
        fs::write(at("readme.txt"), "no images").unwrap();
        let spec = format!("mnist:{}", dir.path().display());
        let splits = open(&spec, Variation::Auto, 1).unwrap();
        assert_eq!((splits.train.len(), splits.test.len()), (3, 2));
        assert_eq!(
            splits.notes,
            [
                "Told by their content: my_train_a and my_train_b for training, my_test_a and my_test_b for testing"
            ]
        );
        assert_eq!(open_test(&spec, 1).unwrap().0.len(), 2);
        // Which are for testing is not clear any more.
        fs::rename(at("my_test_a"), at("other_a")).unwrap();
        assert!(text(&spec).contains("expected train-images-idx3-ubyte"), "{}", text(&spec));
        let file = format!("mnist:{}", at("my_train_a").display());
        let message = text(&file);
        assert!(
            message.ends_with(&format!("found a file. Name its folder: {}", dir.path().display())),
            "{message}"
        );

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (label, name) in (0u8..).zip(["part1", "part2", "the_test"]) {
            fs::write(at(name), [vec![label], vec![label; 3072]].concat()).unwrap();
        }
        fs::write(at("notes.bin"), "no records").unwrap();
        let spec = format!("cifar10:{}", dir.path().display());
        let splits = open(&spec, Variation::Auto, 1).unwrap();
        assert_eq!((splits.train.len(), splits.test.len(), splits.test.label(0)), (2, 1, 2));
        assert_eq!(splits.notes, ["Told by their content: part1, part2 for training, the_test for testing"]);
        // One file of the usual name, and the others must have theirs.
        fs::rename(at("part1"), at(cifar::CIFAR10_TRAIN[0])).unwrap();
        assert!(text(&spec).contains("expected data_batch_2.bin"), "{}", text(&spec));
    }
}
