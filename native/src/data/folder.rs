//! `folder:DIR`: images in a folder a class, `train/CLASS/*.png|jpg|jpeg` and `val/CLASS/...` or `test/CLASS/...`.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use centripetal::data::{Dataset, InMemory, Normalization};
use centripetal::rng::Rng;
use centripetal::{Error, ErrorKind, Result};
use image::DynamicImage;
use rayon::prelude::*;

use super::picture::{self, Header, Part};
use super::{Splits, holds};
use crate::args::Variation;

/// Images are decoded once, when the folder is opened, if those of both splits need at most this many bytes
/// (1 GiB); otherwise each time they are asked for.
pub(super) const BUDGET: u64 = 1 << 30;

/// How many training images mean and deviation are measured on.
const MEASURED: usize = 1000;

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Opens `dir`. Images become `side` x `side`, or the size of the first training image; one channel if all of them are grey,
/// else three. Up to 127 pixels they are resized whole, whatever their own proportions; from
/// [`Variation::CROPPED_FROM`] pixels on, their middle is. Training images that `variation` cuts at random stay in their
/// files.
///
/// Every file's header is read here, so that a file that is no image is found before training. A file that
/// breaks off after a sound header is found here too if the images are kept in memory, which may take `budget` bytes.
///
/// # Errors
/// No `train` or no `val` or `test` folder, no classes, a class without images, a test class that is no training
/// class, and an unreadable image, by its path.
pub(super) fn open(dir: &Path, side: Option<usize>, variation: Variation, budget: u64) -> Result<Splits> {
    let missing = |expected: &str| {
        Error::new(ErrorKind::Io, format!("opening the image folder {}", dir.display()))
            .expected(expected)
            .found(holds(dir))
            .next("Lay it out as train/CLASS/*.png and val/CLASS/*.png (or jpg, jpeg)")
    };
    let train_dir = dir.join("train");
    if !train_dir.is_dir() {
        return Err(missing("a folder train"));
    }
    let test_dir = ["val", "test"].map(|name| dir.join(name)).into_iter().find(|dir| dir.is_dir());
    let test_dir = test_dir.ok_or_else(|| missing("a folder val or test"))?;

    let classes = class_names(&train_dir)?;
    let test_classes = class_names(&test_dir)?;
    if let Some(unknown) = test_classes.iter().find(|class| !classes.contains(class)) {
        return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", test_dir.display()))
            .expected(format!("the classes of {}", train_dir.display()))
            .found(format!("the class {unknown}, which has no training images")));
    }
    let mut notes = Vec::new();
    let train = Listing::new(&train_dir, &classes, &mut notes)?;
    let test = Listing::new(&test_dir, &classes, &mut notes)?;

    let headers = inspect(train.files.iter().chain(&test.files))?;
    let (width, height) = side.map_or(headers[0].size, |side| (side as u32, side as u32));
    let channels = if headers.iter().all(|header| header.grey) { 1 } else { 3 };
    let resized = headers.iter().filter(|header| header.size != (width, height)).count();
    let shape = [channels, height as usize, width as usize];
    if resized > 0 {
        let whole = if is_middle(shape) { "cut to their middle and resized" } else { "resized" };
        notes.push(format!(
            "{resized} of {} images are {whole} to {width} x {height}; folder@SIDE:DIR sets another size",
            headers.len()
        ));
    }
    let name = dir.display().to_string();
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

/// The sorted names of the folders in `dir`.
fn class_names(dir: &Path) -> Result<Vec<String>> {
    let mut classes = Vec::new();
    for path in entries(dir)? {
        if path.is_dir() && !hidden(&path) {
            classes.push(file_name(&path).into_owned());
        }
    }
    if classes.is_empty() {
        return Err(Error::new(ErrorKind::Data, format!("opening the image folder {}", dir.display()))
            .expected("a folder a class")
            .found(holds(dir)));
    }
    classes.sort_unstable();
    Ok(classes)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Io, format!("listing {}", dir.display())).found(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    Ok(paths)
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn hidden(path: &Path) -> bool {
    file_name(path).starts_with('.')
}

/// The image files of a split, class by class, sorted, so that an index means the same image on every machine.
#[derive(Clone)]
struct Listing {
    files: Vec<PathBuf>,
    labels: Vec<u32>,
}

impl Listing {
    fn new(dir: &Path, classes: &[String], notes: &mut Vec<String>) -> Result<Self> {
        let mut listing = Listing { files: Vec::new(), labels: Vec::new() };
        let mut ignored = 0;
        for (label, class) in (0u32..).zip(classes) {
            let class_dir = dir.join(class);
            if !class_dir.is_dir() {
                notes.push(format!("{} has no images of the class {class}", dir.display()));
                continue;
            }
            let (mut images, others): (Vec<PathBuf>, Vec<PathBuf>) =
                entries(&class_dir)?.into_iter().filter(|path| !hidden(path)).partition(|path| {
                    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                    // A pipe of such a name would be waited for without end.
                    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
                });
            if images.is_empty() {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!("opening the class {}", class_dir.display()),
                )
                .expected("png, jpg or jpeg files")
                .found(holds(&class_dir)));
            }
            ignored += others.len();
            images.sort_unstable();
            listing.labels.resize(listing.labels.len() + images.len(), label);
            listing.files.append(&mut images);
        }
        if ignored > 0 {
            notes.push(format!(
                "{ignored} files in {} are no png, jpg or jpeg and are ignored",
                dir.display()
            ));
        }
        Ok(listing)
    }
}

/// The headers of all `files`, or an error that names the first file that has none.
fn inspect<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<Header>> {
    let files: Vec<&PathBuf> = files.collect();
    let headers: Vec<Result<Header>> = files
        .par_iter()
        .map(|path| picture::header(content(path)?).map_err(|error| unreadable(path, &error)))
        .collect();
    let failures = headers.iter().filter(|header| header.is_err()).count();
    headers.into_iter().collect::<Result<_>>().map_err(|error| match failures {
        1 => error.next("Repair or remove it"),
        _ => error.next(format!("Repair or remove it; {} more files are unreadable", failures - 1)),
    })
}

fn content(path: &Path) -> Result<BufReader<fs::File>> {
    fs::File::open(path).map(BufReader::new).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Data, format!("reading the image {}", path.display())).found(why)
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
        let decoded = picture::pixels(content(path)?).map_err(|error| unreadable(path, &error));
        decoded.map_err(|error| error.next("Repair or remove it"))
    }

    fn decode_all(self) -> Result<InMemory> {
        let size: usize = self.shape.iter().product();
        let mut images = vec![0; self.len() * size];
        images
            .par_chunks_exact_mut(size)
            .enumerate()
            .try_for_each(|(index, image)| self.image(index, image))?;
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
        assert!(splits.notes.iter().any(|note| note.ends_with("val has no images of the class cat")));
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
        fs::write(dir.path().join("val/dog/worse.png"), "").unwrap();
        assert!(error(&dir).ends_with("1 more files are unreadable"), "{}", error(&dir));
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
        assert!(error(&dir).contains("expected png, jpg or jpeg files, found only readme.txt"));
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
        symlink("loop.png", at("loop.png")).unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        symlink("..", dir.path().join("train/dog/up")).unwrap();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert_eq!(splits.train.len(), 3);
        assert!(splits.notes.iter().any(|note| note.starts_with("5 files in ")), "{:?}", splits.notes);
    }

    #[test]
    fn a_picture_over_the_ceiling_is_told_by_its_header() {
        let dir = sample();
        // A sound header of 40,000 x 40,000 pixels, and nothing more.
        let mut header = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x9c\x40\0\0\x9c\x40\x08\x02\0\0\0".to_vec();
        let crc = header[12..].iter().fold(!0u32, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
        });
        header.extend((!crc).to_be_bytes());
        header.extend(b"\0\0\0\x01IDAT\0\0\0\0\0");
        fs::write(dir.path().join("train/cat/huge.png"), header).unwrap();
        assert!(error(&dir).contains("40000 x 40000 pixels, over the ceiling"), "{}", error(&dir));
    }

    #[test]
    fn other_files_are_ignored_and_counted() {
        let dir = sample();
        fs::write(dir.path().join("train/cat/notes.txt"), "").unwrap();
        fs::write(dir.path().join("train/cat/.hidden.png"), "").unwrap();
        let splits = open(dir.path(), None, Variation::Auto, BUDGET).unwrap();
        assert!(splits.notes[0].starts_with("1 files in "), "{:?}", splits.notes);
    }
}
