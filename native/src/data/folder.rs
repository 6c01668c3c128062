//! `folder:DIR`: images in a folder a class, `train/CLASS/...` and `val/CLASS/...` or `test/CLASS/...`.
//!
//! A file is what its first bytes say, whatever its name. No image is left out without a word: one that lies in no class, that
//! has a format that is not read, or that is damaged ends in an error.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use centripetal::data::picture::{self as outline, Format, MAGIC, Outline};
use centripetal::data::{Dataset, InMemory, Normalization};
use centripetal::rng::Rng;
use centripetal::{Error, ErrorKind, Result};
use image::DynamicImage;
use rayon::prelude::*;

use super::picture::{self, Part};
use super::{Splits, composed, holds};
use crate::args::Variation;

/// Images are decoded once, when the folder is opened, if those of both splits need at most this many bytes
/// (1 GiB); otherwise each time they are asked for.
pub(super) const BUDGET: u64 = 1 << 30;

/// How many training images mean and deviation are measured on.
const MEASURED: usize = 1000;

/// Endings of names that promise a picture, so that a file of another content is a damaged picture and no note.
const PICTURES: [&str; 15] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff", "heic", "avif", "jp2", "jxl",
    "pnm",
];

/// What to do about pictures that cannot be read.
const REPAIR: &str = "Repair or remove it";

/// Files over this many bytes are no pictures that could be read: 256 MiB.
const LARGEST_FILE: u64 = 256 << 20;

/// Names in a message.
const NAMED: usize = 3;

/// Opens `dir`. Images become `side` x `side`, or the size of the first training image; one channel if all of them are grey,
/// else three. Up to 127 pixels they are resized whole, whatever their own proportions; from
/// [`Variation::CROPPED_FROM`] pixels on, their middle is. Training images that `variation` cuts at random stay in their
/// files.
///
/// Every file is looked through here, so that one that is damaged is found before training. Images are kept in memory if they
/// take at most `budget` bytes.
///
/// # Errors
/// No `train` or no `val` or `test` folder, no classes, a class without images, a test class that is no training class, two
/// classes of one name, images that no class holds, formats that are not read, and a damaged image, by its path.
pub(super) fn open(dir: &Path, side: Option<usize>, variation: Variation, budget: u64) -> Result<Splits> {
    let missing = |expected: &str| {
        Error::new(ErrorKind::Io, format!("opening the image folder {}", dir.display()))
            .expected(expected)
            .found(holds(dir))
            .next("Lay it out as train/CLASS/*.png and val/CLASS/*.png (or jpg)")
    };
    let train_dir = dir.join("train");
    if !train_dir.is_dir() {
        return Err(missing("a folder train"));
    }
    let mut test_dirs = ["val", "test"].map(|name| dir.join(name)).into_iter().filter(|dir| dir.is_dir());
    let test_dir = test_dirs.next().ok_or_else(|| missing("a folder val or test"))?;
    let mut notes = Vec::new();
    if let Some(other) = test_dirs.next() {
        notes.push(format!("{} is used for testing; {} is left alone", test_dir.display(), other.display()));
    }

    let classes = Class::all(&train_dir)?;
    let test_classes = Class::all(&test_dir)?;
    if let Some(unknown) =
        test_classes.iter().find(|class| !classes.iter().any(|known| known.key == class.key))
    {
        return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", test_dir.display()))
            .expected(format!("the classes of {}", train_dir.display()))
            .found(format!("the class {}, which has no training images", unknown.name)));
    }
    let (train, headers) = Listing::read(&train_dir, &classes, &classes, &mut notes)?;
    let (test, test_headers) = Listing::read(&test_dir, &classes, &test_classes, &mut notes)?;

    let first = headers[0].size();
    let headers = [headers, test_headers].concat();
    let turned = headers.iter().filter(|header| header.orientation != 1).count();
    if turned > 0 {
        notes.push(format!("{turned} of {} images are turned as their EXIF data say", headers.len()));
    }
    let (width, height) = side.map_or(first, |side| (side as u32, side as u32));
    let channels = if headers.iter().all(|header| header.grey) { 1 } else { 3 };
    let resized = headers.iter().filter(|header| header.size() != (width, height)).count();
    let shape = [channels, height as usize, width as usize];
    if resized > 0 {
        let whole = if is_middle(shape) { "cut to their middle and resized" } else { "resized" };
        notes.push(format!(
            "{resized} of {} images are {whole} to {width} x {height}; folder@SIDE:DIR sets another size",
            headers.len()
        ));
    }
    let name = dir.display().to_string();
    let classes = classes.into_iter().map(|class| class.name).collect();
    let mut on_demand =
        OnDemand { name, shape, classes, listing: train, normalization: unmeasured(channels) };
    on_demand.normalization = Normalization::measure(&on_demand, MEASURED)?;
    let test = OnDemand { listing: test, ..on_demand.clone() };
    let bytes =
        |images: usize| shape.iter().fold(images as u64, |bytes, &side| bytes.saturating_mul(side as u64));
    let cuts = variation.crops(shape);
    // Cut at random, training images take no memory: they are decoded for every batch.
    let needed = bytes(if cuts { test.len() } else { headers.len() });
    let fits = needed <= budget;
    if cuts {
        notes.push(
            "Training images are decoded as they are needed: a random part of each, resized".to_owned(),
        );
    }
    if !fits {
        notes.push(format!(
            "The {}images need {} MiB, more than the {} MiB that are kept in memory: they are decoded again each epoch",
            if cuts { "test " } else { "" },
            needed >> 20,
            budget >> 20
        ));
    }
    let held = |split: OnDemand, held: bool| -> Result<Arc<dyn Dataset>> {
        Ok(if held { Arc::new(split.decode_all()?) } else { Arc::new(split) })
    };
    Ok(Splits { train: held(on_demand, fits && !cuts)?, test: held(test, fits)?, notes })
}

/// Whether images of `shape` are the middle of larger ones.
fn is_middle([_, height, width]: [usize; 3]) -> bool {
    height.min(width) >= Variation::CROPPED_FROM
}

/// Stands in until the images have been measured.
fn unmeasured(channels: usize) -> Normalization {
    Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] }
}

/// A folder of images of one class.
struct Class {
    /// As it is shown: composed characters (NFC), and marks where it is no Unicode.
    name: String,
    /// By which it is the same class in another split: systems write one name in different ways.
    key: OsString,
    path: PathBuf,
}

impl Class {
    /// The folders in `dir`, sorted by name.
    fn all(dir: &Path) -> Result<Vec<Class>> {
        let mut classes = Vec::new();
        for path in entries(dir)? {
            if path.is_dir() && !hidden(&path) {
                let file_name = path.file_name().unwrap_or_default();
                let name = composed(&file_name.to_string_lossy());
                // What is no Unicode is the same class only by the same bytes.
                let key = file_name.to_str().map_or_else(|| file_name.to_owned(), |_| OsString::from(&name));
                classes.push(Class { name, key, path });
            }
        }
        classes.sort_unstable_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
        let twins = classes.windows(2).find(|pair| pair[0].name == pair[1].name);
        if let Some([a, b]) = twins {
            let name = |class: &Class| format!("{:?}", class.path.file_name().unwrap_or_default());
            return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", dir.display()))
                .expected("a folder a class")
                .found(format!("{} and {}, which are one name", name(a), name(b)))
                .next("Rename one of them, or put their images into one folder"));
        }
        Ok(classes)
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Io, format!("listing {}", dir.display())).found(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn hidden(path: &Path) -> bool {
    path.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b".")
}

/// What a folder holds, and the folders in it.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// Files that are in folders of folders.
    deep: usize,
    /// Pipes, devices, and links to folders, which may lead anywhere.
    others: Vec<PathBuf>,
}

/// Folders in the folder of a class are followed so deep.
const DEEPEST: usize = 16;

impl Found {
    fn add(&mut self, dir: &Path, depth: usize) -> Result<()> {
        for path in entries(dir)? {
            let is_link = path.is_symlink();
            if path.is_file() || is_link && !path.exists() {
                // A link that leads nowhere is told when it is read.
                self.deep += usize::from(depth > 0);
                self.files.push(path);
            } else if path.is_dir() && !hidden(&path) {
                let leads_back = || {
                    let (home, there) = (dir.canonicalize().ok()?, path.canonicalize().ok()?);
                    Some(home.starts_with(there))
                };
                if depth == DEEPEST || is_link && leads_back() != Some(false) {
                    return Err(Error::new(ErrorKind::Data, format!("listing {}", path.display()))
                        .expected(format!(
                            "a folder of pictures, at most {DEEPEST} deep in that of its class"
                        ))
                        .found(if is_link {
                            "a link that leads back to a folder above it"
                        } else {
                            "a deeper one"
                        })
                        .next("Remove it, or move the pictures"));
                }
                self.add(&path, depth + 1)?;
            } else if !path.is_dir() {
                self.others.push(path);
            }
        }
        Ok(())
    }
}

/// What a file is.
enum Probe {
    Picture(Outline),
    /// A picture in a format that is not read.
    Foreign(&'static str),
    /// No picture, and nobody says that it is one.
    Nothing,
}

/// Looks into the file at `path`.
fn probe(path: &Path) -> Result<Probe> {
    let is_named = || {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        PICTURES.contains(&ending.as_str()) && !hidden(path)
    };
    let mut start = Vec::new();
    let begun = fs::File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
        Ok((file, length))
    });
    let (mut file, length) = match begun {
        Ok(begun) => begun,
        // A link that leads nowhere may have been a picture.
        Err(error) if is_named() || error.kind() != std::io::ErrorKind::NotFound => {
            return Err(unreadable(path, &error).next(REPAIR));
        }
        Err(_) => return Ok(Probe::Nothing),
    };
    match Format::of(&start) {
        Some(Format::Other(name)) => return Ok(Probe::Foreign(name)),
        None if !is_named() => return Ok(Probe::Nothing),
        _ => {}
    }
    if length > LARGEST_FILE {
        return Err(too_long(path, length));
    }
    file.read_to_end(&mut start).map_err(|error| unreadable(path, &error))?;
    let outline = outline::inspect(&start).map_err(|why| unreadable(path, &why).next(REPAIR))?;
    Ok(Probe::Picture(outline))
}

fn too_long(path: &Path, length: u64) -> Error {
    let found = format!("a file of {} MiB, over the ceiling of {} MiB", length >> 20, LARGEST_FILE >> 20);
    unreadable(path, &found).next("Make it smaller or remove it")
}

fn content(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        if length <= LARGEST_FILE {
            file.read_to_end(&mut bytes)?;
        }
        Ok((bytes, length))
    };
    let (bytes, length) = read().map_err(|error: std::io::Error| unreadable(path, &error).next(REPAIR))?;
    if length > LARGEST_FILE { Err(too_long(path, length)) } else { Ok(bytes) }
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Data, format!("reading the image {}", path.display())).found(why)
}

/// The first error of `results` in their order, which counts and names the others; else all values.
fn all<T>(results: Vec<Result<T>>, paths: &[PathBuf]) -> Result<Vec<T>> {
    let bad: Vec<&Path> =
        results.iter().zip(paths).filter(|(result, _)| result.is_err()).map(|(_, path)| &**path).collect();
    let more = bad.len().saturating_sub(1);
    let named: Vec<String> = bad.iter().skip(1).take(NAMED).map(|path| path.display().to_string()).collect();
    let rest = if more > named.len() { ", ..." } else { "" };
    results.into_iter().collect::<Result<_>>().map_err(|error| match more {
        0 => error,
        1 => error.next(format!("{REPAIR}; another file is unreadable: {}", named[0])),
        _ => error.next(format!("{REPAIR}; {more} more files are unreadable: {}{rest}", named.join(", "))),
    })
}

/// The image files of a split, class by class, sorted, so that an index means the same image on every machine.
#[derive(Clone)]
struct Listing {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
}

impl Listing {
    /// The images of the split `dir`, whose class folders are `present`, of the data set's `classes`.
    fn read(
        dir: &Path,
        classes: &[Class],
        present: &[Class],
        notes: &mut Vec<String>,
    ) -> Result<(Listing, Vec<Outline>)> {
        let mut listing = Listing { files: Vec::new(), labels: Vec::new() };
        let mut outlines = Vec::new();
        let (mut ignored, mut hidden_pictures, mut deep) = (0, 0, 0);
        let mut foreign: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
        // Beside the folders of classes there are no images, or they would be lost.
        let beside: Vec<PathBuf> = entries(dir)?.into_iter().filter(|path| path.is_file()).collect();
        let lost: Vec<&PathBuf> = beside
            .par_iter()
            .filter(|path| !hidden(path) && !matches!(probe(path), Ok(Probe::Nothing)))
            .collect();
        if let Some(first) = lost.first() {
            return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", dir.display()))
                .expected("images in folders, one a class")
                .found(format!(
                    "{} beside the folders, such as {}",
                    counted(lost.len(), "image", "", ""),
                    first.display()
                ))
                .next("Move each into the folder of its class, or out of the data set"));
        }
        if present.is_empty() {
            return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", dir.display()))
                .expected("a folder a class")
                .found(holds(dir)));
        }
        for (label, class) in (0u32..).zip(classes) {
            let Some(Class { path: class_dir, .. }) = present.iter().find(|there| there.key == class.key)
            else {
                continue;
            };
            let mut found = Found::default();
            found.add(class_dir, 0)?;
            ignored += found.others.len();
            deep += found.deep;
            let probes: Vec<Result<Probe>> = found
                .files
                .par_iter()
                .map(|path| match probe(path) {
                    Err(_) if hidden(path) => Ok(Probe::Nothing),
                    probed => probed,
                })
                .collect();
            let before = listing.files.len();
            for (path, probe) in found.files.iter().zip(all(probes, &found.files)?) {
                match probe {
                    Probe::Picture(_) if hidden(path) => hidden_pictures += 1,
                    Probe::Picture(outline) => {
                        listing.files.push(path.clone());
                        outlines.push(outline);
                    }
                    Probe::Foreign(_) | Probe::Nothing if hidden(path) => {}
                    Probe::Foreign(format) => foreign.entry(format).or_default().push(path.clone()),
                    Probe::Nothing => ignored += 1,
                }
            }
            if listing.files.len() == before && foreign.is_empty() {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("opening the class {}", class_dir.display()),
                )
                .expected("PNG or JPEG files")
                .found(holds(class_dir)));
            }
            listing.labels.resize(listing.files.len(), label);
        }
        if let Some(first) = foreign.values().filter_map(|paths| paths.first()).min() {
            let counts: Vec<String> =
                foreign.iter().map(|(format, paths)| format!("{} {format}", paths.len())).collect();
            return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", dir.display()))
                .expected("PNG and JPEG files alone")
                .found(format!("{}, such as {}", counts.join(" and "), first.display()))
                .next("Convert them to PNG, or move them out of the data set"));
        }
        let mut note = |count: usize, text: String| {
            if count > 0 {
                notes.push(text);
            }
        };
        let within = "folders within those of their classes, and belong to these classes";
        note(deep, format!("{} in {within} (in {})", counted(deep, "file", " lies", " lie"), dir.display()));
        note(
            ignored,
            format!(
                "{} in {}",
                counted(ignored, "file", " is no image and ignored", " are no images and ignored"),
                dir.display()
            ),
        );
        let ways =
            (" has a hidden name (.NAME) and is ignored", " have hidden names (.NAME) and are ignored");
        note(
            hidden_pictures,
            format!("{} in {}", counted(hidden_pictures, "image", ways.0, ways.1), dir.display()),
        );
        Ok((listing, outlines))
    }
}

/// `1 file lies` or `3 files lie`: the noun's plural ends in s.
fn counted(count: usize, noun: &str, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {noun}{one}") } else { format!("{count} {noun}s{many}") }
}

/// A split whose images are decoded each time they are asked for.
#[derive(Clone)]
struct OnDemand {
    name: String,
    shape: [usize; 3],
    classes: Vec<String>,
    listing: Listing,
    normalization: Normalization,
}

impl OnDemand {
    fn decode(&self, index: usize) -> Result<DynamicImage> {
        let path = &self.listing.files[index];
        picture::pixels(&content(path)?).map_err(|why| unreadable(path, &why).next(REPAIR))
    }

    fn decode_all(self) -> Result<InMemory> {
        let size: usize = self.shape.iter().product();
        let mut images = vec![0; self.len() * size];
        let decoded = images.par_chunks_exact_mut(size).enumerate();
        all(decoded.map(|(index, image)| self.image(index, image)).collect(), &self.listing.files)?;
        let OnDemand { name, shape, classes, listing, normalization } = self;
        InMemory::new(name, shape, classes, images, listing.labels, normalization)
    }
}

impl Dataset for OnDemand {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.listing.files.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.listing.labels[index]
    }

    fn image(&self, index: usize, out: &mut [u8]) -> Result<()> {
        let image = self.decode(index)?;
        let [_, height, width] = self.shape;
        let is_whole =
            !is_middle(self.shape) || (image.height(), image.width()) == (height as u32, width as u32);
        let part = if is_whole { Part::whole(&image) } else { Part::middle(&image, self.shape) };
        picture::write_planes(image, part, self.shape, out);
        Ok(())
    }

    fn varied(&self, index: usize, smallest_crop: u8, rng: &mut Rng, out: &mut [u8]) -> Result<()> {
        if smallest_crop == 0 {
            return self.image(index, out);
        }
        let image = self.decode(index)?;
        let part = Part::random(&image, self.shape, smallest_crop, rng);
        picture::write_planes(image, part, self.shape, out);
        Ok(())
    }

    fn decodes(&self) -> bool {
        true
    }

    fn normalization(&self) -> &Normalization {
        &self.normalization
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use tempfile::TempDir;

    use super::*;

    fn grey(path: PathBuf, width: u32, height: u32, value: u8) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
    }

    fn colour(path: PathBuf, width: u32, height: u32, value: [u8; 3]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_pixel(width, height, Rgb(value)).save(path).unwrap();
    }

    /// Two classes in colour, training and test.
    fn sample() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        colour(at("train/dog/2.png"), 4, 3, [20, 0, 255]);
        colour(at("train/cat/1.png"), 4, 3, [10, 0, 255]);
        colour(at("train/cat/3.JPEG"), 8, 8, [100, 100, 100]);
        grey(at("val/dog/4.png"), 4, 3, 40);
        dir
    }

    fn error(dir: &TempDir) -> String {
        open(dir.path(), None, Variation::Auto, BUDGET).err().expect("an error").to_string()
    }

    fn pixels(data: &dyn Dataset, index: usize) -> Vec<u8> {
        let mut out = vec![0; data.shape().iter().product()];
        data.image(index, &mut out).unwrap();
        out
    }

    #[test]
    fn classes_are_sorted_and_the_first_image_fixes_the_size() {
        let dir = sample();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.classes(), ["cat", "dog"]);
        assert_eq!((splits.train.shape(), splits.train.len(), splits.test.len()), ([3, 3, 4], 3, 1));
        assert_eq!((0..3).map(|i| splits.train.label(i)).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(splits.test.label(0), 1);
        assert_eq!(pixels(&*splits.train, 0), [[10; 12], [0; 12], [255; 12]].concat());
        assert!(pixels(&*splits.train, 1).iter().all(|value| value.abs_diff(100) <= 2));
        assert_eq!(pixels(&*splits.test, 0), [40; 36]);
        assert!(splits.notes.iter().any(|note| note.starts_with("1 of 4 images are resized to 4 x 3")));
        let mean = splits.train.normalization().mean[0];
        assert!((mean - (10.0 + 20.0 + 100.0) / 3.0 / 255.0).abs() < 0.01, "{mean}");
        assert_eq!(splits.test.normalization(), splits.train.normalization());
    }

    #[test]
    fn memory_and_on_demand_give_the_same_images() {
        let dir = sample();
        let (memory, demand) = (
            open(dir.path(), None, Variation::Auto, BUDGET).unwrap(),
            open(dir.path(), None, Variation::Auto, 143).unwrap(),
        );
        assert!(demand.notes.last().unwrap().contains("decoded again each epoch"));
        assert_eq!(memory.notes.len() + 1, demand.notes.len());
        for i in 0..3 {
            assert_eq!(pixels(&*memory.train, i), pixels(&*demand.train, i));
        }
        assert_eq!(open(dir.path(), None, Variation::Auto, 144).unwrap().notes, memory.notes);
    }

    /// A picture whose red grows to the right and whose green grows downwards.
    fn ramp(path: PathBuf, width: u32, height: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let level = |at: u32, side: u32| (at * 255 / (side - 1)) as u8;
        RgbImage::from_fn(width, height, |x, y| Rgb([level(x, width), level(y, height), 7]))
            .save(path)
            .unwrap();
    }

    #[test]
    fn large_images_are_tested_on_their_middle_and_trained_on_parts() {
        let dir = tempfile::tempdir().unwrap();
        ramp(dir.path().join("train/a/1.png"), 320, 160);
        ramp(dir.path().join("train/a/2.png"), 128, 128);
        ramp(dir.path().join("val/a/1.png"), 320, 160);
        let splits = open(dir.path(), Some(128), Variation::Auto, BUDGET).unwrap();
        assert!(splits.train.decodes() && !splits.test.decodes());
        assert!(splits.notes.iter().any(|note| note.contains("cut to their middle")), "{:?}", splits.notes);
        // 140 x 140 in the middle of 320 x 160: red from 90 to 229 of 319, green from 10 to 149 of 159.
        let middle = pixels(&*splits.test, 0);
        let corner = |plane: usize, at: usize| i32::from(middle[plane * 128 * 128 + at]);
        let expected = [(0, 0, 72), (0, 127, 183), (1, 0, 16), (1, 127 * 128, 239), (2, 5, 7)];
        for (plane, at, level) in expected {
            assert!((corner(plane, at) - level).abs() <= 2, "{plane} {at}: {}", corner(plane, at));
        }
        assert_eq!(middle, pixels(&*splits.train, 0));
        // One that has the size already is taken whole.
        assert_eq!(pixels(&*splits.train, 1)[..2], [0, 2]);

        let varied = |seed: u64, index: usize| {
            let mut out = vec![0; 3 * 128 * 128];
            splits.train.varied(index, 8, &mut Rng::new(seed), &mut out).unwrap();
            out
        };
        assert_eq!(varied(1, 0), varied(1, 0));
        assert_ne!(varied(1, 0), varied(2, 0));
        let whole = open(dir.path(), Some(128), Variation::Flip, BUDGET).unwrap();
        assert!(!whole.train.decodes());
        assert_eq!(pixels(&*whole.train, 0), middle);
    }

    #[test]
    fn random_parts_lie_within_the_image_and_have_their_sizes() {
        let image = DynamicImage::new_rgb8(500, 375);
        let (mut areas, mut edges) = (Vec::new(), [false; 2]);
        for seed in 0..2000 {
            let part = Part::random(&image, [3, 224, 224], 8, &mut Rng::new(seed));
            assert!(part.left + part.width <= 500 && part.top + part.height <= 375, "{part:?}");
            let ratio = f64::from(part.width) / f64::from(part.height);
            assert!((0.74..1.36).contains(&ratio), "{part:?}");
            areas.push(f64::from(part.width * part.height) / (500.0 * 375.0));
            edges = [edges[0] | (part.left == 0), edges[1] | (part.top + part.height == 375)];
        }
        let (least, most) =
            areas.iter().fold((1f64, 0f64), |(least, most), &area| (least.min(area), most.max(area)));
        assert!(
            (0.075..0.1).contains(&least) && most > 0.9 && edges == [true; 2],
            "{least} {most} {edges:?}"
        );
        // A strip has no such part: its middle is taken.
        let strip = DynamicImage::new_rgb8(1000, 10);
        let part = Part::random(&strip, [3, 224, 224], 100, &mut Rng::new(1));
        assert_eq!(part, Part { left: 495, top: 0, width: 10, height: 10 });
        let dot = Part::random(&DynamicImage::new_rgb8(1, 1), [3, 224, 224], 8, &mut Rng::new(1));
        assert_eq!(dot, Part { left: 0, top: 0, width: 1, height: 1 });
    }

    #[test]
    fn an_image_that_breaks_off_is_named_when_it_is_needed() {
        let dir = tempfile::tempdir().unwrap();
        ramp(dir.path().join("train/a/1.png"), 160, 160);
        ramp(dir.path().join("train/a/2.png"), 160, 160);
        ramp(dir.path().join("val/a/1.png"), 160, 160);
        let bad = dir.path().join("train/a/2.png");
        let splits = open(dir.path(), Some(128), Variation::ResizedCrop, BUDGET).unwrap();
        let whole = fs::read(&bad).unwrap();
        fs::write(&bad, &whole[..whole.len() / 2]).unwrap();
        let failure = splits.train.varied(1, 8, &mut Rng::new(1), &mut vec![0; 3 * 128 * 128]).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with(&format!("reading the image {}: ", bad.display())), "{text}");
        assert!(text.ends_with("Repair or remove it"), "{text}");
    }

    #[test]
    fn a_given_side_and_all_grey() {
        let dir = tempfile::tempdir().unwrap();
        grey(dir.path().join("train/a/1.png"), 9, 5, 200);
        grey(dir.path().join("test/a/1.jpg"), 3, 3, 100);
        let splits = open(dir.path(), Some(6), Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.shape(), [1, 6, 6]);
        assert_eq!(pixels(&*splits.train, 0), [200; 36]);
        assert!(pixels(&*splits.test, 0).iter().all(|value| value.abs_diff(100) <= 2));
        let spec = format!("folder@6:{}", dir.path().display());
        assert_eq!(crate::data::open(&spec, Variation::Auto, 0).unwrap().train.shape(), [1, 6, 6]);
    }

    #[test]
    fn unreadable_images_are_named_when_the_folder_is_opened() {
        let dir = sample();
        let bad = dir.path().join("train/cat/broken.png");
        fs::write(&bad, "no image").unwrap();
        let message = error(&dir);
        assert!(message.starts_with(&format!("reading the image {}: ", bad.display())), "{message}");
        assert!(message.ends_with(". Repair or remove it"), "{message}");
        fs::write(dir.path().join("train/cat/worse.png"), "").unwrap();
        let another =
            format!("another file is unreadable: {}", dir.path().join("train/cat/worse.png").display());
        assert!(error(&dir).ends_with(&another), "{}", error(&dir));
    }

    #[test]
    fn an_image_that_breaks_off_is_named() {
        let dir = sample();
        let bad = dir.path().join("train/cat/1.png");
        let whole = fs::read(&bad).unwrap();
        fs::write(&bad, &whole[..whole.len() - 20]).unwrap();
        assert!(
            error(&dir).starts_with(&format!("reading the image {}: ", bad.display())),
            "{}",
            error(&dir)
        );
    }

    #[test]
    fn a_missing_layout_says_what_it_should_be() {
        let dir = tempfile::tempdir().unwrap();
        assert!(error(&dir).contains("expected a folder train, found an empty folder. Lay it out as"));
        fs::create_dir_all(dir.path().join("train")).unwrap();
        assert!(error(&dir).contains("expected a folder val or test, found only train"));
        fs::create_dir_all(dir.path().join("val")).unwrap();
        assert!(error(&dir).contains("expected a folder a class, found an empty folder"));
        colour(dir.path().join("train/cat/1.png"), 2, 2, [0; 3]);
        fs::create_dir_all(dir.path().join("val/cow")).unwrap();
        assert!(error(&dir).contains("found the class cow, which has no training images"));
        fs::rename(dir.path().join("val/cow"), dir.path().join("val/cat")).unwrap();
        fs::write(dir.path().join("val/cat/readme.txt"), "").unwrap();
        assert!(error(&dir).contains("expected PNG or JPEG files, found only readme.txt"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_waited_for() {
        use std::os::unix::fs::symlink;
        let dir = sample();
        let at = |name: &str| dir.path().join("train/cat").join(name);
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe.png")).status().unwrap();
        assert!(pipe.success());
        symlink("/dev/zero", at("endless.png")).unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        symlink("..", dir.path().join("train/dog/up")).unwrap();
        // Followed, all classes would be dogs, without end.
        let message = error(&dir);
        assert!(message.contains("train/dog/up") && message.contains("a link that leads back"), "{message}");
        fs::remove_file(dir.path().join("train/dog/up")).unwrap();
        // Pictures that lie elsewhere belong to the class that links to their folder.
        let elsewhere = tempfile::tempdir().unwrap();
        colour(elsewhere.path().join("more.png"), 4, 3, [1, 2, 3]);
        symlink(elsewhere.path(), dir.path().join("train/dog/more")).unwrap();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.len(), 4);
        assert!(
            splits.notes.iter().any(|note| note.starts_with("2 files are no images and ignored in ")),
            "{:?}",
            splits.notes
        );
        // A link that leads nowhere may have been a picture, if it is named as one.
        symlink("nowhere", at("note.txt")).unwrap();
        assert!(open(dir.path(), None, Variation::Auto, BUDGET).is_ok());
        for (from, to) in [("loop.png", "loop.png"), ("nowhere", "gone.JPG")] {
            symlink(from, at(to)).unwrap();
            let message = error(&dir);
            assert!(message.starts_with(&format!("reading the image {}: ", at(to).display())), "{message}");
            fs::remove_file(at(to)).unwrap();
        }
    }

    #[test]
    fn a_picture_over_the_ceiling_is_told_by_its_header() {
        let dir = sample();
        // A sound header of 40,000 x 40,000 pixels, and a byte of them.
        let header = [0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40, 8, 2, 0, 0, 0];
        let parts = [chunk(b"IHDR", &header), chunk(b"IDAT", &[0]), chunk(b"IEND", b"")].concat();
        let header = [&b"\x89PNG\r\n\x1a\n"[..], &parts].concat();
        fs::write(dir.path().join("train/cat/huge.png"), header).unwrap();
        assert!(error(&dir).contains("more pixels than 192 MiB hold"), "{}", error(&dir));
    }

    #[test]
    fn other_files_are_ignored_and_counted() {
        let dir = sample();
        fs::write(dir.path().join("train/cat/notes.txt"), "").unwrap();
        fs::write(dir.path().join("train/cat/.hidden.png"), "").unwrap();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert!(splits.notes[0].starts_with("1 file is no image and ignored in "), "{:?}", splits.notes);
    }

    /// A chunk of a PNG.
    fn chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
        let covered = [name, content].concat();
        let sum = covered.iter().fold(!0u32, |sum, byte| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 })
        });
        [&(content.len() as u32).to_be_bytes()[..], &covered, &(!sum).to_be_bytes()].concat()
    }

    /// EXIF data with this orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let start = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0";
        [&start[..], &[orientation, 0, 0, 0, 0, 0, 0]].concat()
    }

    /// `picture` with EXIF data: JPEG, or PNG with these before its pixels or behind them.
    fn with_exif(picture: &[u8], orientation: u8, behind: bool) -> Vec<u8> {
        let exif = exif(orientation);
        if picture.starts_with(&[0xff, 0xd8]) {
            let content = [b"Exif\0\0", &exif[..]].concat();
            let length = (content.len() as u16 + 2).to_be_bytes();
            return [&picture[..2], &[0xff, 0xe1], &length, &content, &picture[2..]].concat();
        }
        let at = if behind { picture.len() - 12 } else { 33 };
        [&picture[..at], &chunk(b"eXIf", &exif), &picture[at..]].concat()
    }

    fn encoded(image: &DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn pictures_are_turned_as_exif_says() {
        use image::ImageFormat::{Jpeg, Png};
        // Four flat quarters that are told apart: red and green above, blue and white below.
        let quarters = [[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 250]];
        let upright = RgbImage::from_fn(32, 16, |x, y| Rgb(quarters[(y / 8 * 2 + x / 16) as usize]));
        let upright = DynamicImage::ImageRgb8(upright);
        // How cameras store it that were held otherwise: what undoes the orientation.
        let stored = |orientation: u8| match orientation {
            2 => upright.fliph(),
            3 => upright.rotate180(),
            4 => upright.flipv(),
            5 => upright.rotate90().fliph(),
            6 => upright.rotate270(),
            7 => upright.rotate270().fliph(),
            8 => upright.rotate90(),
            _ => upright.clone(),
        };
        for orientation in 1..=8 {
            let dir = tempfile::tempdir().unwrap();
            let image = stored(orientation);
            for (name, format, behind) in [("1", Jpeg, false), ("2", Png, false), ("3", Png, true)] {
                for split in ["train", "val"] {
                    let path = dir.path().join(split).join("a");
                    fs::create_dir_all(&path).unwrap();
                    fs::write(path.join(name), with_exif(&encoded(&image, format), orientation, behind))
                        .unwrap();
                }
            }
            let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
            assert_eq!(splits.train.shape(), [3, 16, 32], "{orientation}");
            for index in 0..3 {
                let seen = pixels(&*splits.train, index);
                for (quarter, colour) in quarters.iter().enumerate() {
                    let at = (quarter / 2 * 8 + 4) * 32 + quarter % 2 * 16 + 8;
                    let found = [0, 1, 2].map(|plane| seen[plane * 512 + at]);
                    let near = found.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) < 12);
                    assert!(near, "{orientation}, picture {index}, quarter {quarter}: {found:?}");
                }
            }
            let told = splits.notes.iter().any(|note| note.starts_with("6 of 6 images are turned"));
            assert_eq!(told, orientation > 1, "{:?}", splits.notes);
        }
    }

    #[test]
    fn transparency_sixteen_bits_and_ink_become_colours() {
        let flat = |image: DynamicImage| {
            let image = picture::pixels(&encoded(&image, image::ImageFormat::Png)).unwrap();
            image.as_bytes()[..usize::from(image.color().channel_count())].to_vec()
        };
        let clear = |pixel| DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(3, 2, image::Rgba(pixel)));
        assert_eq!(flat(clear([10, 20, 30, 255])), [10, 20, 30]);
        assert_eq!(flat(clear([10, 20, 30, 0])), [255; 3]);
        assert_eq!(flat(clear([0, 100, 255, 51])), [204, 224, 255]);
        let grey =
            |pixel| DynamicImage::ImageLumaA8(image::GrayAlphaImage::from_pixel(3, 2, image::LumaA(pixel)));
        assert_eq!(
            (flat(grey([0, 0])), flat(grey([100, 255])), flat(grey([0, 128]))),
            (vec![255], vec![100], vec![127])
        );
        // Scaled and rounded, not cut off: 257 times 8 bits.
        for (deep, expected) in
            [(0u16, 0u8), (127, 0), (129, 1), (0x00ff, 1), (32768, 128), (0xff00, 254), (65535, 255)]
        {
            let image = image::ImageBuffer::from_pixel(2, 2, Luma([deep]));
            assert_eq!(flat(DynamicImage::ImageLuma16(image)), [expected], "{deep}");
            let image = image::ImageBuffer::from_pixel(2, 2, image::Rgba([deep, deep, deep, 65535]));
            assert_eq!(flat(DynamicImage::ImageRgba16(image)), [expected; 3], "{deep}");
        }
        let ink = include_bytes!("../../../tests/pictures/cmyk-red.jpg");
        let red = picture::pixels(ink).unwrap().into_rgb8();
        let Rgb([r, g, b]) = *red.get_pixel(8, 8);
        assert!(r > 245 && g < 10 && b < 10, "{r} {g} {b}");
    }

    #[test]
    fn content_decides_and_no_image_is_lost() {
        let dir = sample();
        let cat = dir.path().join("train/cat");
        let grey = |value| DynamicImage::ImageLuma8(GrayImage::from_pixel(4, 3, Luma([value])));
        let (png, jpeg) =
            (encoded(&grey(7), image::ImageFormat::Png), encoded(&grey(7), image::ImageFormat::Jpeg));
        for (name, content) in
            [("9", &png), ("a.JPE", &jpeg), ("b.jfif", &jpeg), ("c.png", &jpeg), ("d.txt", &png)]
        {
            fs::write(cat.join(name), content).unwrap();
        }
        fs::create_dir_all(cat.join("more/still")).unwrap();
        fs::write(cat.join("more/still/e.png"), &png).unwrap();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.len(), 3 + 6);
        assert!(splits.notes.iter().any(|note| note.starts_with("1 file lies in folders within")));

        // Formats that are not read are counted.
        fs::write(cat.join("f.webp"), b"RIFF\x10\0\0\0WEBPVP8 ").unwrap();
        fs::write(cat.join("g.png"), b"GIF89a").unwrap();
        fs::write(dir.path().join("train/dog/h"), b"GIF87a").unwrap();
        let message = error(&dir);
        assert!(
            message.contains("expected PNG and JPEG files alone, found 2 GIF and 1 WebP, such as "),
            "{message}"
        );
        for path in ["train/cat/f.webp", "train/cat/g.png", "train/dog/h"] {
            fs::remove_file(dir.path().join(path)).unwrap();
        }
        // So are images beside the folders of classes, in either split.
        for split in ["train", "val"] {
            let stray = dir.path().join(split).join("stray.png");
            fs::write(&stray, &png).unwrap();
            let message = error(&dir);
            let found = format!("1 image beside the folders, such as {}", stray.display());
            assert!(message.contains(&found), "{message}");
            fs::remove_file(stray).unwrap();
        }
        fs::write(dir.path().join("train/readme.txt"), "no image").unwrap();
        assert!(open(dir.path(), None, Variation::Auto, BUDGET).is_ok());
    }

    #[test]
    fn damaged_pictures_are_named_wherever_they_are_read() {
        let jpegs: [&[u8]; 4] = [
            include_bytes!("../../../tests/pictures/baseline-444.jpg"),
            include_bytes!("../../../tests/pictures/baseline-420.jpg"),
            include_bytes!("../../../tests/pictures/baseline-restarts.jpg"),
            include_bytes!("../../../tests/pictures/progressive-420.jpg"),
        ];
        for jpeg in jpegs {
            let dir = sample();
            let path = dir.path().join("train/cat/cut.jpg");
            fs::write(&path, jpeg).unwrap();
            let splits = open(dir.path(), None, Variation::Auto, 0).unwrap();
            let mut out = vec![0; splits.train.shape().iter().product()];
            for part in [jpeg.len() / 50, jpeg.len() / 2, jpeg.len() * 98 / 100, jpeg.len() - 2] {
                fs::write(&path, &jpeg[..part]).unwrap();
                let message = error(&dir);
                assert!(message.starts_with(&format!("reading the image {}: ", path.display())), "{message}");
                // And where it is cut after it was found whole.
                let later = splits.train.image(2, &mut out).unwrap_err().to_string();
                assert!(later.starts_with(&format!("reading the image {}: ", path.display())), "{later}");
            }
        }
    }

    #[test]
    fn one_name_in_two_ways_of_writing_is_one_class() {
        let dir = tempfile::tempdir().unwrap();
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        grey(dir.path().join("train").join(decomposed).join("1.png"), 2, 2, 1);
        grey(dir.path().join("train/tea/1.png"), 2, 2, 1);
        grey(dir.path().join("val").join(composed).join("1.png"), 2, 2, 1);
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.classes(), [composed, "tea"]);
        assert_eq!(splits.test.label(0), 0);
        grey(dir.path().join("train").join(composed).join("1.png"), 2, 2, 1);
        if fs::read_dir(dir.path().join("train")).unwrap().count() == 2 {
            // This file system takes both for one name.
            return;
        }
        let message = error(&dir);
        assert!(message.contains("\"cafe\\u{301}\" and \"caf\u{e9}\", which are one name"), "{message}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_no_unicode_keep_their_images() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let (e, a) = (OsStr::from_bytes(b"caf\xe9"), OsStr::from_bytes(b"caf\xe0"));
        for split in ["train", "val"] {
            grey(dir.path().join(split).join(e).join("1.png"), 2, 2, 1);
            grey(dir.path().join(split).join("tea/1.png"), 2, 2, 1);
        }
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.classes(), ["caf\u{fffd}", "tea"]);
        assert_eq!((splits.train.len(), splits.test.len(), splits.test.label(0)), (2, 2, 0));
        // Another that is shown alike: not the same class in the other split, and no second one in this.
        fs::rename(dir.path().join("val").join(e), dir.path().join("val").join(a)).unwrap();
        assert!(error(&dir).contains("which has no training images"), "{}", error(&dir));
        grey(dir.path().join("train").join(a).join("1.png"), 2, 2, 1);
        let message = error(&dir);
        assert!(message.contains(r#""caf\xE0" and "caf\xE9", which are one name"#), "{message}");
    }
}
