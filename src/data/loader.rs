//! Batches of a data set, by epoch and step.
//!
//! Batch (epoch, step) is a pure function of the data set, the seed and the two numbers: no thread, no earlier
//! batch and no resumed process changes it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Augment, Batch, Dataset, IGNORE};
use crate::device::simd::for_each_part;
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Rng;

/// Names of the random streams.
const SHUFFLE: u64 = u64::from_be_bytes(*b"shuffle ");
const AUGMENT: u64 = u64::from_be_bytes(*b"augment ");

enum Mode {
    Train { seed: u64, augment: Augment },
    Evaluate,
}

/// Makes the batches of one data set.
///
/// Training: a new order every epoch, augmented, full batches only (what is left over at the end of an epoch is
/// dropped, and is other samples each time). Evaluation: every sample once, in order, as it is; the last batch
/// may be partial.
pub struct Loader {
    dataset: Arc<dyn Dataset>,
    batch_size: usize,
    mode: Mode,
    scratch: Mutex<Scratch>,
}

/// Kept between calls so that `fill` allocates nothing.
struct Scratch {
    /// The epoch that `order` is of.
    epoch: Option<u64>,
    order: Vec<usize>,
    image: Vec<u8>,
}

impl Loader {
    /// Shuffled and augmented batches of `batch_size`, decided by `seed`.
    ///
    /// # Errors
    /// A batch of zero, or larger than the data set, which would leave no batch at all.
    pub fn training(
        dataset: Arc<dyn Dataset>,
        batch_size: usize,
        seed: u64,
        augment: Augment,
    ) -> Result<Self> {
        let images = dataset.len();
        if batch_size > images {
            return Err(Error::new(ErrorKind::Argument, format!("making batches of {}", dataset.name()))
                .expected(format!("a batch of at most {images}, the number of training images"))
                .found(batch_size)
                .next(format!("Take a batch of {images} or less, or more images")));
        }
        Self::new(dataset, batch_size, Mode::Train { seed, augment })
    }

    /// Every image once, in order; epoch is without meaning.
    ///
    /// # Errors
    /// A batch of zero, or a data set of zero images.
    pub fn evaluation(dataset: Arc<dyn Dataset>, batch_size: usize) -> Result<Self> {
        Self::new(dataset, batch_size, Mode::Evaluate)
    }

    fn new(dataset: Arc<dyn Dataset>, batch_size: usize, mode: Mode) -> Result<Self> {
        let error = || Error::new(ErrorKind::Argument, format!("making batches of {}", dataset.name()));
        if batch_size == 0 {
            return Err(error().expected("a batch of at least 1").found(0));
        }
        if dataset.is_empty() {
            return Err(error().expected("at least one image").found("none"));
        }
        let image = vec![0; dataset.shape().iter().product()];
        let order = (0..dataset.len()).collect();
        Ok(Loader { dataset, batch_size, mode, scratch: Mutex::new(Scratch { epoch: None, order, image }) })
    }

    /// The data set the batches are of.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.dataset
    }

    /// N, the rows of every batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// How many steps an epoch has; at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        match self.mode {
            Mode::Train { .. } => self.dataset.len() / self.batch_size,
            Mode::Evaluate => self.dataset.len().div_ceil(self.batch_size),
        }
    }

    /// Overwrites `batch` with batch `step < batches_per_epoch` of `epoch`.
    ///
    /// Resizes `batch` if it is not of this loader's size yet, and allocates nothing otherwise, unless images are decoded
    /// ([`Dataset::decodes`]): those are made by all threads of the rayon pool that this is called in.
    ///
    /// # Errors
    /// Those of [`Dataset::image`].
    pub fn fill(&self, epoch: u64, step: usize, batch: &mut Batch) -> Result<()> {
        assert!(step < self.batches_per_epoch(), "step {step} of {}", self.batches_per_epoch());
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { epoch: ordered, order, image } = &mut *scratch;
        if let Mode::Train { seed, .. } = self.mode
            && *ordered != Some(epoch)
        {
            // Shuffled from the sorted order, not from the last epoch's, so that a resumed run gets the same.
            order.iter_mut().enumerate().for_each(|(i, index)| *index = i);
            Rng::stream(seed, &[SHUFFLE, epoch]).shuffle(order);
            *ordered = Some(epoch);
        }
        let size = image.len();
        batch.images.resize(self.batch_size * size, 0.0);
        batch.labels.resize(self.batch_size, IGNORE);
        let first = step * self.batch_size;
        batch.samples = self.batch_size.min(order.len() - first);
        let indices = &order[first..first + batch.samples];
        for (&index, label) in indices.iter().zip(&mut batch.labels) {
            *label = self.dataset.label(index);
        }
        let rows = &mut batch.images[..indices.len() * size];
        if cfg!(feature = "native") && self.dataset.decodes() {
            self.fill_side_by_side(epoch, indices, size, rows)?;
        } else {
            for (&index, values) in indices.iter().zip(rows.chunks_exact_mut(size)) {
                self.row(epoch, index, image, values)?;
            }
        }
        batch.images[batch.samples * size..].fill(0.0);
        batch.labels[batch.samples..].fill(IGNORE);
        Ok(())
    }

    /// The row of image `index`, by way of the bytes `image`.
    fn row(&self, epoch: u64, index: usize, image: &mut [u8], values: &mut [f32]) -> Result<()> {
        let (augment, mut rng) = match self.mode {
            Mode::Train { seed, augment } => (augment, Rng::stream(seed, &[AUGMENT, epoch, index as u64])),
            Mode::Evaluate => (Augment::NONE, Rng::new(0)),
        };
        self.dataset.varied(index, augment.smallest_crop, &mut rng, image)?;
        augment.apply(&mut rng, self.dataset.shape(), self.dataset.normalization(), image, values);
        Ok(())
    }

    /// The rows of the images `indices`, on the threads of the pool that this is called in. A row is a function of epoch and
    /// index, so it does not matter which makes it.
    fn fill_side_by_side(&self, epoch: u64, indices: &[usize], size: usize, rows: &mut [f32]) -> Result<()> {
        // Of several failures the first row's, whichever thread was first.
        let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        for_each_part(rows, size, |row, values| {
            if let Err(error) = self.row(epoch, indices[row], &mut vec![0; size], values) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.as_ref().is_none_or(|(before, _)| row < *before) {
                    *failure = Some((row, error));
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Flip, InMemory, Normalization, names};

    /// Ten images of 2 x 2 whose pixels are all 1 + their index.
    fn data() -> Arc<dyn Dataset> {
        let images = (1..=10).flat_map(|pixel| [pixel; 4]).collect();
        let labels = (0..10).map(|i| i % 3).collect();
        let normalization = Normalization { mean: vec![0.0], std: vec![1.0 / 255.0] };
        let classes = names(&["a", "b", "c"]);
        Arc::new(InMemory::new("ten", [1, 2, 2], classes, images, labels, normalization).unwrap())
    }

    fn indices(loader: &Loader, epoch: u64) -> Vec<usize> {
        let mut batch = Batch::default();
        let mut indices = Vec::new();
        for step in 0..loader.batches_per_epoch() {
            loader.fill(epoch, step, &mut batch).unwrap();
            for row in 0..batch.samples {
                let index = batch.images[row * 4].round() as usize - 1;
                assert_eq!(batch.labels[row], loader.dataset().label(index));
                indices.push(index);
            }
        }
        indices
    }

    /// Images that are decoded, of which those from `broken` on cannot be; a pixel tells what the crop was asked for.
    struct Decoded {
        data: Arc<dyn Dataset>,
        broken: usize,
        decodes: bool,
    }

    impl Dataset for Decoded {
        fn name(&self) -> &str {
            "decoded"
        }
        fn len(&self) -> usize {
            self.data.len()
        }
        fn shape(&self) -> [usize; 3] {
            self.data.shape()
        }
        fn classes(&self) -> &[String] {
            self.data.classes()
        }
        fn label(&self, index: usize) -> u32 {
            self.data.label(index)
        }
        fn image(&self, index: usize, out: &mut [u8]) -> Result<()> {
            if index >= self.broken {
                return Err(Error::new(ErrorKind::Data, format!("reading the image {index}")));
            }
            self.data.image(index, out)
        }
        fn varied(&self, index: usize, smallest_crop: u8, rng: &mut Rng, out: &mut [u8]) -> Result<()> {
            self.image(index, out)?;
            out[1] = smallest_crop;
            out[2] = rng.below(200) as u8;
            Ok(())
        }
        fn decodes(&self) -> bool {
            self.decodes
        }
        fn normalization(&self) -> &Normalization {
            self.data.normalization()
        }
    }

    #[test]
    fn rows_made_side_by_side_are_those_made_in_turn() {
        let loader = |decodes| {
            let data = Decoded { data: data(), broken: usize::MAX, decodes };
            Loader::training(Arc::new(data), 5, 3, Augment::RESIZED_CROP).unwrap()
        };
        let (mut one, mut other) = (Batch::default(), Batch::default());
        for epoch in 0..3 {
            loader(true).fill(epoch, 1, &mut one).unwrap();
            loader(false).fill(epoch, 1, &mut other).unwrap();
            assert!(one == other, "epoch {epoch}");
        }
        // Mirrored or not, in each row of two pixels one is the crop's.
        assert!(one.images.chunks(4).all(|image| image[..2].iter().any(|&x| (x - 8.0).abs() < 1e-3)));
        let evaluation = |decodes| {
            let data = Decoded { data: data(), broken: usize::MAX, decodes };
            let mut batch = Batch::default();
            Loader::evaluation(Arc::new(data), 4).unwrap().fill(0, 2, &mut batch).unwrap();
            batch
        };
        assert!(evaluation(true) == evaluation(false) && evaluation(true).samples == 2);
    }

    #[test]
    fn of_several_images_that_cannot_be_read_the_first_is_named() {
        for decodes in [true, false] {
            let data = Decoded { data: data(), broken: 6, decodes };
            let loader = Loader::evaluation(Arc::new(data), 10).unwrap();
            let error = loader.fill(0, 0, &mut Batch::default()).unwrap_err().to_string();
            assert_eq!(error, "reading the image 6");
        }
    }

    #[test]
    fn training_is_a_new_permutation_each_epoch_without_the_rest() {
        let loader = |seed| Loader::training(data(), 4, seed, Augment::NONE).unwrap();
        let first = indices(&loader(1), 0);
        assert_eq!(first.len(), 8);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 8);
        assert_ne!(first, indices(&loader(1), 1));
        assert_ne!(first, indices(&loader(2), 0));
    }

    #[test]
    fn a_batch_does_not_depend_on_the_batches_before_it() {
        let augment = Augment { pad: 1, flip: Flip::Horizontal, ..Augment::NONE };
        let used = Loader::training(data(), 3, 5, augment).unwrap();
        let (mut after_others, mut fresh, mut later) = (Batch::default(), Batch::default(), Batch::default());
        for epoch in [0, 2, 1] {
            used.fill(epoch, 0, &mut after_others).unwrap();
        }
        used.fill(1, 2, &mut after_others).unwrap();
        Loader::training(data(), 3, 5, augment).unwrap().fill(1, 2, &mut fresh).unwrap();
        assert_eq!(after_others, fresh);
        used.fill(2, 2, &mut later).unwrap();
        assert_ne!(later, fresh);
    }

    #[test]
    fn augmentation_belongs_to_the_sample_not_to_its_place_in_the_batch() {
        let augment = Augment { pad: 2, ..Augment::NONE };
        let rows = |batch_size: usize| {
            let loader = Loader::training(data(), batch_size, 5, augment).unwrap();
            let mut batch = Batch::default();
            let mut rows = Vec::new();
            for step in 0..loader.batches_per_epoch() {
                loader.fill(3, step, &mut batch).unwrap();
                rows.extend(batch.images.chunks_exact(4).map(<[f32]>::to_vec));
            }
            rows
        };
        assert_eq!(rows(2), rows(5));
    }

    #[test]
    fn evaluation_is_in_order_and_marks_the_missing_rows() {
        let loader = Loader::evaluation(data(), 4).unwrap();
        assert_eq!(indices(&loader, 0), (0..10).collect::<Vec<_>>());
        let mut batch = Batch::default();
        loader.fill(0, 1, &mut batch).unwrap();
        assert_eq!(batch.samples, 4);
        loader.fill(0, 2, &mut batch).unwrap();
        assert_eq!((batch.samples, batch.images[8..].to_vec()), (2, vec![0.0; 8]));
        assert_eq!(batch.labels, [2, 0, IGNORE, IGNORE]);
        assert_eq!(Loader::evaluation(data(), 100).unwrap().batches_per_epoch(), 1);
    }

    #[test]
    fn a_sized_batch_is_not_allocated_again() {
        let loader = Loader::training(data(), 4, 1, Augment::CIFAR).unwrap();
        let mut batch = Batch::default();
        loader.fill(0, 0, &mut batch).unwrap();
        let before = (batch.images.as_ptr(), batch.labels.as_ptr());
        loader.fill(1, 1, &mut batch).unwrap();
        assert_eq!(before, (batch.images.as_ptr(), batch.labels.as_ptr()));
    }

    #[test]
    fn impossible_batches_are_refused_with_the_numbers() {
        let text = |result: Result<Loader>| result.err().expect("an error").to_string();
        assert_eq!(
            text(Loader::training(data(), 11, 1, Augment::NONE)),
            "making batches of ten: expected a batch of at most 10, the number of training images, found 11. \
             Take a batch of 10 or less, or more images"
        );
        assert!(text(Loader::training(data(), 0, 1, Augment::NONE)).contains("at least 1, found 0"));
        assert!(text(Loader::evaluation(data(), 0)).contains("at least 1, found 0"));
    }

    #[test]
    fn can_move_to_another_thread() {
        fn sendable<T: Send + Sync>() {}
        sendable::<Loader>();
    }
}
