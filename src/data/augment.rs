//! Training augmentation and normalisation of one image.
//!
//! Pad with zeros, crop back to H x W at a random place, mirror every second image on average, then
//! `(x / 255 - mean) / std`. In torchvision's words: `RandomCrop(size, padding=pad)`,
//! `RandomHorizontalFlip()`, `ToTensor()`, `Normalize(mean, std)`; as there, the border is black *before*
//! normalisation.

use super::Normalization;
use crate::from_json;
use crate::rng::Rng;

/// Whether images are mirrored at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub enum Flip {
    /// Never: digits and letters.
    #[default]
    Never,
    /// Left and right exchanged with probability 1/2.
    Horizontal,
}

from_json!(enum Flip { Never: "Never", Horizontal: "Horizontal" });

/// How training images are varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Augment {
    /// Pixels of black border on each side before the random crop; 0 switches the crop off.
    pub pad: usize,
    /// Random mirroring.
    pub flip: Flip,
    /// Smallest part of an image, in percent of its area, that a random crop takes before the image is resized to its
    /// shape; 0 switches that off. It is the data set that does this ([`Dataset::varied`](super::Dataset::varied)): here
    /// all images have their shape.
    #[serde(skip_serializing_if = "is_off")]
    pub smallest_crop: u8,
}

fn is_off(percent: &u8) -> bool {
    *percent == 0
}

from_json!(Augment { pad, flip, smallest_crop = 0 });

impl Augment {
    /// Nothing is varied: evaluation, and training that wants the images as they are.
    pub const NONE: Augment = Augment { pad: 0, flip: Flip::Never, smallest_crop: 0 };

    /// The usual choice for CIFAR, and that of the C-SGD paper: 4 pixels, mirrored.
    pub const CIFAR: Augment = Augment { pad: 4, flip: Flip::Horizontal, smallest_crop: 0 };

    /// The usual choice for photographs of all sizes: parts of 8 to 100 % of the area, resized, mirrored. In torchvision's
    /// words `RandomResizedCrop(size)`, `RandomHorizontalFlip()`.
    pub const RESIZED_CROP: Augment = Augment { pad: 0, flip: Flip::Horizontal, smallest_crop: 8 };

    /// Writes the augmented, normalised `image` (C*H*W bytes) of `shape` `[C, H, W]` to `out` (C*H*W).
    ///
    /// `rng` decides where the crop lies and whether it is mirrored. Two images with generators in the same
    /// state are varied alike.
    pub fn apply(
        &self,
        rng: &mut Rng,
        shape: [usize; 3],
        normalization: &Normalization,
        image: &[u8],
        out: &mut [f32],
    ) {
        let [channels, height, width] = shape;
        let size = channels * height * width;
        assert!(image.len() == size && out.len() == size, "augment needs C*H*W values in and out");
        let (top, left) = match self.pad {
            0 => (0, 0),
            pad => (rng.below(2 * pad + 1), rng.below(2 * pad + 1)),
        };
        let mirrored = match self.flip {
            Flip::Never => false,
            Flip::Horizontal => rng.below(2) == 1,
        };
        // Columns of the crop that lie on the image; the others are border.
        let first = self.pad.saturating_sub(left).min(width);
        let last = (width + self.pad).saturating_sub(left).min(width);
        let skipped = left.saturating_sub(self.pad).min(width);
        for channel in 0..channels {
            let (mean, std) = (normalization.mean[channel], normalization.std[channel]);
            let normalise = |pixel: u8| (f32::from(pixel) / 255.0 - mean) / std;
            let plane = channel * height * width;
            for y in 0..height {
                let row = &mut out[plane + y * width..][..width];
                match (y + top).checked_sub(self.pad).filter(|&source| source < height) {
                    None => row.fill(normalise(0)),
                    Some(source) => {
                        row[..first].fill(normalise(0));
                        row[last..].fill(normalise(0));
                        let start = plane + source * width + skipped;
                        for (value, &pixel) in row[first..last].iter_mut().zip(&image[start..]) {
                            *value = normalise(pixel);
                        }
                    }
                }
                if mirrored {
                    row.reverse();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 3, 4];

    fn image() -> Vec<u8> {
        (1..=24).map(|i| i * 10).collect()
    }

    fn statistics() -> Normalization {
        Normalization { mean: vec![0.5, 0.25], std: vec![0.5, 2.0] }
    }

    fn run(augment: Augment, seed: u64) -> Vec<f32> {
        let mut out = vec![f32::NAN; 24];
        augment.apply(&mut Rng::new(seed), SHAPE, &statistics(), &image(), &mut out);
        out
    }

    /// Pixel by pixel from the definition: index the padded image, then mirror.
    fn by_definition(top: usize, left: usize, pad: usize, mirrored: bool) -> Vec<f32> {
        let [channels, height, width] = SHAPE;
        let (image, statistics) = (image(), statistics());
        let mut out = Vec::new();
        for c in 0..channels {
            for y in 0..height {
                for x in 0..width {
                    let x = if mirrored { width - 1 - x } else { x };
                    let (sy, sx) = ((y + top).wrapping_sub(pad), (x + left).wrapping_sub(pad));
                    let inside = sy < height && sx < width;
                    let pixel = if inside { image[(c * height + sy) * width + sx] } else { 0 };
                    out.push((f32::from(pixel) / 255.0 - statistics.mean[c]) / statistics.std[c]);
                }
            }
        }
        out
    }

    #[test]
    fn none_only_normalises() {
        assert_eq!(run(Augment::NONE, 1), by_definition(0, 0, 0, false));
        assert_eq!(run(Augment::NONE, 1)[0], (10.0 / 255.0 - 0.5) / 0.5);
    }

    #[test]
    fn every_crop_and_mirroring_occurs_and_nothing_else() {
        // A border wider than the image also gives crops that are all border.
        for pad in [1, 2, 5] {
            let side = 2 * pad + 1;
            let all: Vec<Vec<f32>> = (0..side * side * 2)
                .map(|i| by_definition(i / 2 / side, i / 2 % side, pad, i % 2 == 1))
                .collect();
            let mut seen = vec![false; all.len()];
            for seed in 0..40 * all.len() as u64 {
                let out = run(Augment { pad, flip: Flip::Horizontal, ..Augment::NONE }, seed);
                assert!(all.contains(&out), "seed {seed}, pad {pad}: {out:?}");
                for (seen, expected) in seen.iter_mut().zip(&all) {
                    *seen |= *expected == out;
                }
            }
            assert!(seen.iter().all(|&seen| seen), "pad {pad}: {seen:?}");
        }
    }

    #[test]
    fn the_border_is_black_before_normalisation() {
        let all_border = (0..).map(|seed| run(Augment { pad: 9, ..Augment::NONE }, seed));
        let out = all_border.take(500).find(|out| out[..12].iter().all(|&v| v == out[0])).unwrap();
        assert_eq!((out[0], out[12]), (-1.0, -0.125));
    }
}
