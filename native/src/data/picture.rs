//! One PNG or JPEG: its header, and its pixels as planes. Bytes in, bytes out: the fuzz targets have this file too.

use std::io::{BufRead, Seek};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, ImageResult, Limits};

/// Most bytes that the pixels of one picture may take, and that its decoder may take beside them: 64 million pixels in
/// colour. Checked in the header, before any memory is taken.
pub(crate) const CEILING: u64 = 192 << 20;

/// What is known of a picture without decoding it.
pub(crate) struct Header {
    /// Width, height.
    pub(crate) size: (u32, u32),
    pub(crate) grey: bool,
}

/// A decoder for `content`, which is what its first bytes say: files are often named png and are jpeg.
fn decoder<'a>(content: impl BufRead + Seek + 'a) -> ImageResult<impl ImageDecoder + 'a> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(CEILING);
    let mut reader = ImageReader::new(content).with_guessed_format()?;
    reader.limits(limits);
    let decoder = reader.into_decoder()?;
    if decoder.total_bytes() > CEILING {
        let ((width, height), most) = (decoder.dimensions(), CEILING >> 20);
        let told = format!("{width} x {height} pixels, over the ceiling of {most} MiB: make it smaller");
        return Err(ImageError::IoError(std::io::Error::other(told)));
    }
    Ok(decoder)
}

/// Reads the header of `content`.
///
/// # Errors
/// Those of the decoder, and a picture over [`CEILING`].
pub(crate) fn header<'a>(content: impl BufRead + Seek + 'a) -> ImageResult<Header> {
    let decoder = decoder(content)?;
    Ok(Header { size: decoder.dimensions(), grey: !decoder.color_type().has_color() })
}

/// Writes `content` as channel planes of `shape` `[C, H, W]`, resized by a triangle filter (bilinear, and wider where it
/// shrinks, so that nothing aliases) if it has another size.
///
/// # Errors
/// As [`header`].
pub(crate) fn decode<'a>(
    content: impl BufRead + Seek + 'a,
    shape: [usize; 3],
    out: &mut [u8],
) -> ImageResult<()> {
    let image = DynamicImage::from_decoder(decoder(content)?)?;
    let [channels, height, width] = shape;
    let (height, width) = (height as u32, width as u32);
    let image = match (image.width(), image.height()) == (width, height) {
        true => image,
        false => image.resize_exact(width, height, FilterType::Triangle),
    };
    if channels == 1 {
        out.copy_from_slice(&image.into_luma8());
        return Ok(());
    }
    let pixels = image.into_rgb8();
    for (channel, plane) in out.chunks_exact_mut(out.len() / channels).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(pixels.pixels()) {
            *value = pixel[channel];
        }
    }
    Ok(())
}
