//! A learnable data set made from a seed, of any shape: for tests, benchmarks and a first try without files.
//!
//! Every class has a smooth random pattern; a sample is its class's pattern, shifted by a few pixels, plus
//! noise. Classes take turns, so every prefix is balanced.

use super::{InMemory, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Rng;

/// Names of the random streams, so that patterns do not depend on how many samples are drawn.
const PATTERN: u64 = u64::from_be_bytes(*b"pattern ");
const SAMPLE: u64 = u64::from_be_bytes(*b"sample  ");

/// Random values a pattern interpolates between, per side.
const GRID: usize = 4;

/// Which samples: both splits share the patterns and no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Samples to learn from.
    Train,
    /// Samples to test with.
    Test,
}

/// What to generate. The defaults are as large as a CIFAR-10 image and as hard as Fashion-MNIST.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Synthetic {
    /// `[C, H, W]`.
    pub shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Standard deviation of the noise, in units of the full range.
    pub noise: f32,
    /// How far a sample may be shifted to each side, in pixels, around the border to the other side.
    pub shift: usize,
    /// Same seed, same bytes, on every platform.
    pub seed: u64,
}

impl Default for Synthetic {
    fn default() -> Self {
        Synthetic { shape: [3, 32, 32], classes: 10, noise: 0.15, shift: 2, seed: 0 }
    }
}

impl Synthetic {
    /// `samples` samples of `split`.
    ///
    /// # Errors
    /// Zero samples, classes or pixels, and sizes that do not fit in memory.
    pub fn generate(&self, split: Split, samples: usize) -> Result<InMemory> {
        let [channels, height, width] = self.shape;
        let doing = format!("generating {samples} synthetic images");
        let size = super::memory::volume(self.shape, &doing)?;
        let total = size.checked_mul(samples).filter(|&total| total <= isize::MAX as usize);
        let Some(total) = total.filter(|&total| total > 0 && self.classes > 0) else {
            return Err(Error::new(ErrorKind::Argument, doing)
                .expected("at least one image and one class, and no more than memory holds")
                .found(format!("{samples} images of {} classes", self.classes)));
        };
        let patterns: Vec<Vec<f32>> = (0..self.classes).map(|class| self.pattern(class)).collect();
        let mut images = Vec::with_capacity(total);
        let mut labels = Vec::with_capacity(samples);
        for index in 0..samples {
            let class = index % self.classes;
            let mut rng = Rng::stream(self.seed, &[SAMPLE, split as u64, index as u64]);
            let (down, right) = (rng.below(2 * self.shift + 1), rng.below(2 * self.shift + 1));
            for channel in 0..channels {
                let plane = &patterns[class][channel * height * width..][..height * width];
                for y in 0..height {
                    let row = &plane[(y + down) % height * width..][..width];
                    for x in 0..width {
                        let value = row[(x + right) % width] + self.noise * noise(&mut rng);
                        images.push((value * 255.0).round().clamp(0.0, 255.0) as u8);
                    }
                }
            }
            labels.push(class as u32);
        }
        let classes = (0..self.classes).map(|class| format!("pattern {class}")).collect();
        let normalization = Normalization { mean: vec![0.5; channels], std: vec![0.25; channels] };
        InMemory::new("synthetic", self.shape, classes, images, labels, normalization)
    }

    /// The pattern of `class`, C*H*W in 0.15..0.85: random values on a coarse grid, bilinear between them.
    fn pattern(&self, class: usize) -> Vec<f32> {
        let [channels, height, width] = self.shape;
        let mut rng = Rng::stream(self.seed, &[PATTERN, class as u64]);
        let mut pattern = Vec::with_capacity(channels * height * width);
        for _ in 0..channels {
            let grid: [[f32; GRID]; GRID] = std::array::from_fn(|_| std::array::from_fn(|_| rng.uniform()));
            for y in 0..height {
                let (top, bottom, down) = between(y, height);
                for x in 0..width {
                    let (left, right, along) = between(x, width);
                    let upper = grid[top][left] * (1.0 - along) + grid[top][right] * along;
                    let lower = grid[bottom][left] * (1.0 - along) + grid[bottom][right] * along;
                    pattern.push(0.15 + 0.7 * (upper * (1.0 - down) + lower * down));
                }
            }
        }
        pattern
    }
}

/// The two grid lines around pixel `at` of `side`, and how far it is from the first to the second. The last
/// line is followed by the first, so that shifting a pattern around the border leaves no seam.
fn between(at: usize, side: usize) -> (usize, usize, f32) {
    let position = at * GRID;
    let line = position / side;
    (line, (line + 1) % GRID, (position % side) as f32 / side as f32)
}

/// Mean 0, deviation 1, nearly normal: a sum of four uniforms. Unlike `ln` and `cos` it is the same to the bit
/// on every platform.
fn noise(rng: &mut Rng) -> f32 {
    let sum: f32 = (0..4).map(|_| rng.uniform()).sum();
    (sum - 2.0) * 1.732_050_8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;

    fn image(data: &InMemory, index: usize) -> Vec<u8> {
        let mut out = vec![0; data.shape().iter().product()];
        data.image(index, &mut out).unwrap();
        out
    }

    #[test]
    fn same_seed_same_bytes_other_seed_or_split_other_bytes() {
        let make = |seed, split| {
            let data = Synthetic { seed, ..Default::default() }.generate(split, 3).unwrap();
            (0..3).map(|i| image(&data, i)).collect::<Vec<_>>()
        };
        assert_eq!(make(1, Split::Train), make(1, Split::Train));
        assert_ne!(make(1, Split::Train), make(2, Split::Train));
        assert_ne!(make(1, Split::Train), make(1, Split::Test));
        // More samples do not change the first ones.
        let more = Synthetic { seed: 1, ..Default::default() }.generate(Split::Train, 30).unwrap();
        assert_eq!(image(&more, 2), make(1, Split::Train)[2]);
    }

    #[test]
    fn the_nearest_class_mean_recognises_test_samples() {
        let config = Synthetic { shape: [1, 17, 12], ..Default::default() };
        let (train, test) =
            (config.generate(Split::Train, 500).unwrap(), config.generate(Split::Test, 200).unwrap());
        let mut means = vec![vec![0.0f32; 17 * 12]; 10];
        for i in 0..500 {
            for (mean, pixel) in means[train.label(i) as usize].iter_mut().zip(image(&train, i)) {
                *mean += f32::from(pixel) / 50.0;
            }
        }
        let right = (0..200).filter(|&i| {
            let image = image(&test, i);
            let distance = |mean: &Vec<f32>| -> f32 {
                mean.iter().zip(&image).map(|(m, &p)| (m - f32::from(p)).powi(2)).sum()
            };
            let nearest = (0..10).min_by(|&a, &b| distance(&means[a]).total_cmp(&distance(&means[b])));
            nearest == Some(test.label(i) as usize)
        });
        let right = right.count();
        assert!(right > 160, "{right} of 200");
    }

    #[test]
    fn statistics_fit_the_data() {
        let data = Synthetic::default().generate(Split::Train, 100).unwrap();
        let measured = Normalization::measure(&data, 100).unwrap();
        for (mean, std) in measured.mean.iter().zip(&measured.std) {
            assert!((mean - 0.5).abs() < 0.1 && (0.15..0.3).contains(std), "{measured:?}");
        }
    }

    #[test]
    fn nothing_and_too_much_are_errors() {
        let error =
            |config: Synthetic, samples| config.generate(Split::Train, samples).unwrap_err().to_string();
        let usual = Synthetic::default();
        assert!(error(usual, 0).contains("found 0 images of 10 classes"));
        assert!(error(Synthetic { classes: 0, ..usual }, 5).contains("found 5 images of 0 classes"));
        assert!(error(usual, usize::MAX / 2).contains("no more than memory holds"));
        assert!(error(Synthetic { shape: [1, 0, 1], ..usual }, 5).contains("at least one pixel"));
    }
}
