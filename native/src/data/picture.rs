//! The pixels of one PNG or JPEG as planes. Bytes in, bytes out: the fuzz targets have this file too.

use std::io::Cursor;

use centripetal::data::picture::{self, CEILING, Outline};
use centripetal::rng::Rng;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageReader, Limits, RgbImage};

/// The part of an image's sides that is kept of it, cut out of its middle, where images are made smaller: 224 of 256, as is
/// usual for photographs.
const MIDDLE: (u32, u32) = (7, 8);

/// Tries for a random part that lies within the image.
const TRIES: usize = 10;

/// What lies behind a transparent pixel.
const PAPER: u16 = 255;

/// The pixels of `content` as they are seen: turned as EXIF says, laid on white paper where they are transparent, 8 bits a
/// channel, one channel or three. `content` is what its first bytes say: files are often named png and are jpeg.
///
/// # Errors
/// What [`picture::inspect`] finds, so that no decoder fills in what is missing; then those of the decoder.
pub(crate) fn pixels(content: &[u8]) -> Result<DynamicImage, String> {
    let outline = picture::inspect(content)?;
    let failed = |error: image::ImageError| error.to_string();
    let mut reader =
        ImageReader::new(Cursor::new(content)).with_guessed_format().map_err(|error| error.to_string())?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(CEILING);
    reader.limits(limits);
    Ok(turned(flat(reader.decode().map_err(failed)?), &outline))
}

fn turned(mut image: DynamicImage, outline: &Outline) -> DynamicImage {
    if let Some(orientation) = Orientation::from_exif(outline.orientation) {
        image.apply_orientation(orientation);
    }
    image
}

/// `image` without transparency and with 8 bits a channel.
fn flat(image: DynamicImage) -> DynamicImage {
    let over = |level: u8, alpha: u8| {
        let (level, alpha) = (u16::from(level), u16::from(alpha));
        // At most 255 * 255 and a half: a number of 16 bits.
        ((level * alpha + PAPER * (255 - alpha) + 127) / 255) as u8
    };
    let (width, height) = (image.width(), image.height());
    match (image.color().has_color(), image.color().has_alpha()) {
        (false, false) => DynamicImage::ImageLuma8(image.into_luma8()),
        (true, false) => DynamicImage::ImageRgb8(image.into_rgb8()),
        (false, true) => {
            let image = image.into_luma_alpha8();
            DynamicImage::ImageLuma8(GrayImage::from_fn(width, height, |x, y| {
                let [level, alpha] = image.get_pixel(x, y).0;
                image::Luma([over(level, alpha)])
            }))
        }
        (true, true) => {
            let image = image.into_rgba8();
            DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, y| {
                let [red, green, blue, alpha] = image.get_pixel(x, y).0;
                image::Rgb([red, green, blue].map(|level| over(level, alpha)))
            }))
        }
    }
}

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Part {
    pub(crate) fn whole(image: &DynamicImage) -> Part {
        Part { left: 0, top: 0, width: image.width(), height: image.height() }
    }

    /// The largest part of the proportions of `shape` `[C, H, W]`, in the middle, of sides in 64-bit numbers: those of a
    /// picture and of a shape both fit 32.
    fn of_proportions(image: &DynamicImage, [_, height, width]: [usize; 3], (kept, of): (u32, u32)) -> Part {
        let (whole_width, whole_height) = (u64::from(image.width()), u64::from(image.height()));
        let (height, width) = (height as u64, width as u64);
        let wide = (whole_height * width).div_ceil(height).min(whole_width);
        let high = (whole_width * height).div_ceil(width).min(whole_height);
        let side = |side: u64| (side * u64::from(kept) / u64::from(of)).max(1);
        let (wide, high) = (side(wide), side(high));
        Part {
            left: ((whole_width - wide) / 2) as u32,
            top: ((whole_height - high) / 2) as u32,
            width: wide as u32,
            height: high as u32,
        }
    }

    pub(crate) fn middle(image: &DynamicImage, shape: [usize; 3]) -> Part {
        Part::of_proportions(image, shape, MIDDLE)
    }

    /// At least `smallest` percent of the area, of proportions between 3:4 and 4:3 of those of `shape`: torchvision's
    /// `RandomResizedCrop`.
    pub(crate) fn random(image: &DynamicImage, shape: [usize; 3], smallest: u8, rng: &mut Rng) -> Part {
        let (width, height) = (f64::from(image.width()), f64::from(image.height()));
        let least = f64::from(smallest) / 100.0;
        let [_, rows, columns] = shape;
        for _ in 0..TRIES {
            let area = width * height * (least + (1.0 - least) * f64::from(rng.uniform()));
            // Even in the logarithm, so that high parts are as likely as wide ones.
            let ratio =
                (4f64 / 3.0).powf(2.0 * f64::from(rng.uniform()) - 1.0) * columns as f64 / rows as f64;
            let (wide, high) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
            if (1.0..=width).contains(&wide) && (1.0..=height).contains(&high) {
                let (wide, high) = (wide as u32, high as u32);
                let place = |rng: &mut Rng, rest: u32| rng.below(rest as usize + 1) as u32;
                let left = place(rng, image.width() - wide);
                return Part { left, top: place(rng, image.height() - high), width: wide, height: high };
            }
        }
        Part::of_proportions(image, shape, (1, 1))
    }
}

/// Writes `part` of `image` as channel planes of `shape` `[C, H, W]`, resized by a triangle filter (bilinear, and wider
/// where it shrinks, so that nothing aliases) if it has another size.
pub(crate) fn write_planes(image: DynamicImage, part: Part, shape: [usize; 3], out: &mut [u8]) {
    let [channels, height, width] = shape;
    let (height, width) = (height as u32, width as u32);
    let image = if part == Part::whole(&image) {
        image
    } else {
        image.crop_imm(part.left, part.top, part.width, part.height)
    };
    let image = match (image.width(), image.height()) == (width, height) {
        true => image,
        false => image.resize_exact(width, height, FilterType::Triangle),
    };
    if channels == 1 {
        out.copy_from_slice(&image.into_luma8());
        return;
    }
    let pixels = image.into_rgb8();
    for (channel, plane) in out.chunks_exact_mut(out.len() / channels).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(pixels.pixels()) {
            *value = pixel[channel];
        }
    }
}
