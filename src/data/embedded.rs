//! A part of Fashion-MNIST inside the binary: 5,000 training and 1,000 test images, 2.6 MB.
//!
//! MIT licence, `embedded/NOTICE`; made by `embedded/make.py`.

use super::{InMemory, Source, idx};
use crate::error::Result;

macro_rules! file {
    ($name:literal) => {
        Source { name: $name, bytes: include_bytes!(concat!("embedded/", $name)) }
    };
}

/// Training and test images, every class as often as any other.
///
/// # Errors
/// None in practice; the type is that of every reader.
pub fn embedded() -> Result<(InMemory, InMemory)> {
    let train = idx::dataset(
        idx::Family::FashionMnist,
        file!("train-images-idx3-ubyte.gz"),
        file!("train-labels-idx1-ubyte.gz"),
    )?;
    let test = idx::dataset(
        idx::Family::FashionMnist,
        file!("t10k-images-idx3-ubyte.gz"),
        file!("t10k-labels-idx1-ubyte.gz"),
    )?;
    Ok((train, test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Normalization};

    #[test]
    fn holds_balanced_classes_and_the_statistics_it_is_normalised_with() {
        let (train, test) = embedded().unwrap();
        for (data, each) in [(&train, 500), (&test, 100)] {
            let mut counts = [0; 10];
            (0..data.len()).for_each(|i| counts[data.label(i) as usize] += 1);
            assert_eq!((data.shape(), counts), ([1, 28, 28], [each; 10]));
        }
        let measured = Normalization::measure(&train, usize::MAX).unwrap();
        assert!((measured.mean[0] - train.normalization().mean[0]).abs() < 0.005, "{measured:?}");
        assert!((measured.std[0] - train.normalization().std[0]).abs() < 0.005, "{measured:?}");
    }
}
