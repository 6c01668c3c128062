//! A data set with other statistics: those that a network was trained with.

use std::sync::Arc;

use super::{Dataset, Normalization};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Rng;

struct Normalized {
    dataset: Arc<dyn Dataset>,
    normalization: Normalization,
}

/// `dataset`, normalised by `normalization` instead of its own statistics.
///
/// # Errors
/// [`ErrorKind::Checkpoint`] for statistics that are not one finite mean and positive deviation a channel.
pub fn normalized(dataset: Arc<dyn Dataset>, normalization: &Normalization) -> Result<Arc<dyn Dataset>> {
    let Normalization { mean, std } = normalization;
    let channels = dataset.shape()[0];
    let fits = mean.len() == channels
        && std.len() == channels
        && mean.iter().all(|x| x.is_finite())
        && std.iter().all(|x| x.is_finite() && *x > 0.0);
    if !fits {
        return Err(Error::new(ErrorKind::Checkpoint, "normalising images as the network was trained with")
            .expected(format!("one mean and one positive deviation for each of {channels} channels"))
            .found(format!("means {mean:?}, deviations {std:?}")));
    }
    Ok(Arc::new(Normalized { dataset, normalization: normalization.clone() }))
}

impl Dataset for Normalized {
    fn name(&self) -> &str {
        self.dataset.name()
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.dataset.shape()
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.dataset.label(index)
    }

    fn image(&self, index: usize, out: &mut [u8]) -> Result<()> {
        self.dataset.image(index, out)
    }

    fn varied(&self, index: usize, smallest_crop: u8, rng: &mut Rng, out: &mut [u8]) -> Result<()> {
        self.dataset.varied(index, smallest_crop, rng, out)
    }

    fn decodes(&self) -> bool {
        self.dataset.decodes()
    }

    fn normalization(&self) -> &Normalization {
        &self.normalization
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{InMemory, names};

    #[test]
    fn statistics_are_replaced_and_checked() {
        let own = Normalization { mean: vec![0.0], std: vec![1.0] };
        let images = InMemory::new("tiny", [1, 1, 1], names(&["a"]), vec![0; 5], vec![0; 5], own);
        let images: Arc<dyn Dataset> = Arc::new(images.expect("a data set"));
        let other = Normalization { mean: vec![0.5], std: vec![0.25] };
        let wrapped = normalized(Arc::clone(&images), &other).expect("fits");
        assert_eq!(wrapped.normalization(), &other);
        assert_eq!((wrapped.len(), wrapped.label(3)), (images.len(), images.label(3)));
        for (mean, std) in [(vec![0.5; 3], vec![0.2; 3]), (vec![0.5], vec![0.0]), (vec![f32::NAN], vec![1.0])]
        {
            let error = normalized(Arc::clone(&images), &Normalization { mean, std }).err().expect("refused");
            assert_eq!(error.kind(), ErrorKind::Checkpoint);
        }
    }
}
