//! Data sets made of bytes in memory, and parts of other data sets.

use std::sync::Arc;

use super::{Dataset, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Rng;

/// A data set held in memory as bytes.
#[derive(Debug, Clone)]
pub struct InMemory {
    name: String,
    shape: [usize; 3],
    classes: Vec<String>,
    images: Vec<u8>,
    labels: Vec<u32>,
    normalization: Normalization,
}

impl InMemory {
    /// Takes `images` (N*C*H*W bytes, channel planes) of `shape` `[C, H, W]` with one label each.
    ///
    /// # Errors
    /// No images, sizes that do not agree, a label that is not below the number of classes, or statistics that
    /// are not one positive deviation a channel.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        classes: Vec<String>,
        images: Vec<u8>,
        labels: Vec<u32>,
        normalization: Normalization,
    ) -> Result<Self> {
        let name = name.into();
        let doing = || format!("checking the data set {name}");
        let size = volume(shape, &doing())?;
        if labels.is_empty() {
            return Err(Error::new(ErrorKind::Data, doing()).expected("at least one image").found("none"));
        }
        if labels.len().checked_mul(size) != Some(images.len()) {
            let [c, h, w] = shape;
            return Err(Error::new(ErrorKind::Data, doing())
                .expected(format!("{} images of {c} x {h} x {w} = {size} bytes, one a label", labels.len()))
                .found(format!("{} bytes", images.len())));
        }
        check_labels(&doing(), &labels, classes.len())?;
        check_normalization(&doing(), &normalization, shape[0])?;
        Ok(InMemory { name, shape, classes, images, labels, normalization })
    }

    /// The same images with other statistics, for instance those of [`Normalization::measure`] or those that a
    /// pretrained model was trained with.
    ///
    /// # Errors
    /// Statistics that are not one positive deviation a channel.
    pub fn with_normalization(self, normalization: Normalization) -> Result<Self> {
        check_normalization(
            &format!("setting the statistics of {}", self.name),
            &normalization,
            self.shape[0],
        )?;
        Ok(InMemory { normalization, ..self })
    }
}

impl Dataset for InMemory {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn image(&self, index: usize, out: &mut [u8]) -> Result<()> {
        let size: usize = self.shape.iter().product();
        out.copy_from_slice(&self.images[index * size..][..size]);
        Ok(())
    }

    fn normalization(&self) -> &Normalization {
        &self.normalization
    }
}

/// Some images of another data set.
#[derive(Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The images `indices` of `dataset`, in that order.
    ///
    /// # Errors
    /// No index, or one that is not below the length of `dataset`.
    pub fn new(dataset: Arc<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        let error = || Error::new(ErrorKind::Argument, format!("taking a part of {}", dataset.name()));
        if indices.is_empty() {
            return Err(error().expected("at least one image").found("none"));
        }
        if let Some(index) = indices.iter().find(|&&index| index >= dataset.len()) {
            return Err(error()
                .expected(format!("indices below {}", dataset.len()))
                .found(format!("index {index}")));
        }
        Ok(Subset { dataset, indices })
    }

    /// The first `count` images of `dataset`.
    ///
    /// # Errors
    /// A `count` of 0 or above the length of `dataset`.
    pub fn first(dataset: Arc<dyn Dataset>, count: usize) -> Result<Self> {
        if count > dataset.len() {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("taking the first {count} images of {}", dataset.name()),
            )
            .expected(format!("at most {} images, which is all of them", dataset.len()))
            .found(count));
        }
        Self::new(dataset, (0..count).collect())
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        self.dataset.name()
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.dataset.shape()
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(self.indices[index])
    }

    fn image(&self, index: usize, out: &mut [u8]) -> Result<()> {
        self.dataset.image(self.indices[index], out)
    }

    fn varied(&self, index: usize, smallest_crop: u8, rng: &mut Rng, out: &mut [u8]) -> Result<()> {
        self.dataset.varied(self.indices[index], smallest_crop, rng, out)
    }

    fn decodes(&self) -> bool {
        self.dataset.decodes()
    }

    fn normalization(&self) -> &Normalization {
        self.dataset.normalization()
    }
}

/// C*H*W, or an error where that is 0 or overflows.
pub(super) fn volume(shape: [usize; 3], doing: &str) -> Result<usize> {
    let size = shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side));
    size.filter(|&size| size > 0).ok_or_else(|| {
        let [c, h, w] = shape;
        Error::new(ErrorKind::Data, doing)
            .expected("an image shape of at least one pixel that fits in memory")
            .found(format!("{c} x {h} x {w}"))
    })
}

pub(super) fn check_labels(doing: &str, labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(()),
        Some(index) => Err(Error::new(ErrorKind::Data, doing)
            .expected(format!("labels below {classes}, the number of classes"))
            .found(format!("label {} at image {index}", labels[index]))),
    }
}

fn check_normalization(doing: &str, normalization: &Normalization, channels: usize) -> Result<()> {
    let Normalization { mean, std } = normalization;
    let usable = mean.len() == channels
        && std.len() == channels
        && mean.iter().chain(std).all(|value| value.is_finite())
        && std.iter().all(|&value| value > 0.0);
    if usable {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Data, doing)
        .expected(format!("one finite mean and one positive deviation for each of {channels} channels"))
        .found(format!("means {mean:?}, deviations {std:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::names;

    fn plain(channels: usize) -> Normalization {
        Normalization { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    fn tiny(images: Vec<u8>, labels: Vec<u32>) -> Result<InMemory> {
        InMemory::new("tiny", [2, 1, 2], names(&["a", "b"]), images, labels, plain(2))
    }

    fn message(result: Result<impl Sized>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn in_memory_returns_what_it_was_given() {
        let data = tiny((0..8).collect(), vec![1, 0]).unwrap();
        let mut image = [0; 4];
        data.image(1, &mut image).unwrap();
        assert_eq!((image, data.label(0), data.len()), ([4, 5, 6, 7], 1, 2));
    }

    #[test]
    fn in_memory_refuses_what_does_not_fit_together() {
        assert_eq!(
            message(tiny(vec![], vec![])),
            "checking the data set tiny: expected at least one image, found none"
        );
        assert_eq!(
            message(tiny(vec![0; 7], vec![0, 1])),
            "checking the data set tiny: expected 2 images of 2 x 1 x 2 = 4 bytes, one a label, found 7 bytes"
        );
        assert_eq!(
            message(tiny(vec![0; 8], vec![0, 2])),
            "checking the data set tiny: expected labels below 2, the number of classes, found label 2 at image 1"
        );
        let no_pixels = InMemory::new("tiny", [1, 0, 3], names(&["a"]), vec![], vec![0], plain(1));
        assert!(message(no_pixels).ends_with("found 1 x 0 x 3"));
        let huge = InMemory::new("tiny", [usize::MAX, 2, 3], names(&["a"]), vec![], vec![0], plain(1));
        assert!(message(huge).contains("fits in memory"));
    }

    #[test]
    fn statistics_must_be_usable() {
        let data = tiny(vec![0; 4], vec![0]).unwrap();
        assert!(data.clone().with_normalization(plain(2)).is_ok());
        for bad in [
            plain(1),
            Normalization { mean: vec![0.0; 2], std: vec![1.0, 0.0] },
            Normalization { mean: vec![f32::NAN, 0.0], std: vec![1.0; 2] },
        ] {
            let text = message(data.clone().with_normalization(bad));
            assert!(text.contains("one positive deviation for each of 2 channels"), "{text}");
        }
    }

    #[test]
    fn subset_maps_indices_and_checks_them() {
        let data: Arc<dyn Dataset> = Arc::new(tiny((0..12).collect(), vec![0, 1, 0]).unwrap());
        let part = Subset::new(data.clone(), vec![2, 1]).unwrap();
        let mut image = [0; 4];
        part.image(0, &mut image).unwrap();
        assert_eq!((image, part.label(1), part.len()), ([8, 9, 10, 11], 1, 2));
        assert_eq!(Subset::first(data.clone(), 2).unwrap().len(), 2);
        assert_eq!(
            message(Subset::first(data.clone(), 4)),
            "taking the first 4 images of tiny: expected at most 3 images, which is all of them, found 4"
        );
        assert!(message(Subset::new(data.clone(), vec![3])).contains("found index 3"));
        assert!(message(Subset::first(data, 0)).contains("at least one image"));
    }
}
