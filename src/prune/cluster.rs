//! Which filters of a layer become one: partitions of its K output channels, and how they are found.
//!
//! A filter is one row: the C·R·S weights of one output channel. k-means groups rows that are already alike
//! (the paper's choice for a trained layer); from random weights that means nothing, so `even` cuts the channels
//! into runs. Rows are used as they are, without normalisation, as in the official code.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::from_json;
use crate::json::{FromJson, Read};
use crate::rng::Rng;
use crate::sort;

/// Lloyd's iterations of one start; scikit-learn's default.
const MAX_ITERATIONS: usize = 300;

/// The channels `0..channels()` split into clusters: members ascending, clusters ordered by their survivor.
///
/// Serialised as the bare list of lists, and checked again when it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "Vec<Vec<usize>>")]
pub struct Partition {
    clusters: Vec<Vec<usize>>,
}

impl Partition {
    /// The partition made of `clusters`, in any order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if there is no cluster, one is empty, or the members are not each of
    /// `0..(number of members)` exactly once.
    pub fn new(mut clusters: Vec<Vec<usize>>) -> Result<Self> {
        let invalid = |found: String| {
            Err(Error::new(ErrorKind::Shape, "building clusters of channels")
                .expected("every channel in exactly one cluster")
                .found(found))
        };
        if clusters.is_empty() {
            return invalid("no clusters".into());
        }
        let channels = clusters.iter().map(Vec::len).sum();
        let mut seen = vec![false; channels];
        for (index, members) in clusters.iter_mut().enumerate() {
            if members.is_empty() {
                return invalid(format!("an empty cluster at position {index}"));
            }
            sort::by(members, usize::cmp);
            for &channel in &*members {
                match seen.get_mut(channel) {
                    None => return invalid(format!("channel {channel} among only {channels} members")),
                    Some(true) => return invalid(format!("channel {channel} twice")),
                    Some(slot) => *slot = true,
                }
            }
        }
        sort::by(&mut clusters, |a, b| a[0].cmp(&b[0]));
        Ok(Partition { clusters })
    }

    /// The partition in which channels with equal labels share a cluster; the labels' values mean nothing else.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if `labels` is empty.
    pub fn from_labels(labels: &[usize]) -> Result<Self> {
        let mut position = std::collections::BTreeMap::new();
        let mut clusters: Vec<Vec<usize>> = Vec::new();
        for (channel, label) in labels.iter().enumerate() {
            let index = *position.entry(label).or_insert(clusters.len());
            if index == clusters.len() {
                clusters.push(Vec::new());
            }
            clusters[index].push(channel);
        }
        Partition::new(clusters)
    }

    /// Every one of `channels` channels alone: nothing is merged, C-SGD is plain SGD.
    ///
    /// # Panics
    /// If `channels` is 0, which no layer has.
    pub fn singletons(channels: usize) -> Self {
        assert!(channels > 0, "a partition needs at least one channel");
        Partition { clusters: (0..channels).map(|channel| vec![channel]).collect() }
    }

    /// The clusters: members ascending, ordered by survivor.
    pub fn clusters(&self) -> &[Vec<usize>] {
        &self.clusters
    }

    /// Number of clusters: the width that is kept.
    #[expect(clippy::len_without_is_empty, reason = "a partition is never empty")]
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    /// Number of channels: the present width.
    pub fn channels(&self) -> usize {
        self.clusters.iter().map(Vec::len).sum()
    }

    /// The lowest channel of each cluster, ascending: those that stay after the cut.
    pub fn survivors(&self) -> Vec<usize> {
        self.clusters.iter().map(|members| members[0]).collect()
    }

    /// For each channel, the index of its cluster, which is also its channel after the cut.
    pub fn cluster_of(&self) -> Vec<usize> {
        let mut owner = vec![0; self.channels()];
        for (index, members) in self.clusters.iter().enumerate() {
            for &channel in members {
                owner[channel] = index;
            }
        }
        owner
    }

    /// Whether every channel is alone, so that there is nothing to cut.
    pub fn is_trivial(&self) -> bool {
        self.clusters.iter().all(|members| members.len() == 1)
    }
}

impl FromJson for Partition {
    fn from_json(value: &Value) -> Read<Self> {
        Partition::new(FromJson::from_json(value)?).map_err(|error| error.to_string())
    }
}

from_json!(@serde Partition);

impl TryFrom<Vec<Vec<usize>>> for Partition {
    type Error = Error;

    fn try_from(clusters: Vec<Vec<usize>>) -> Result<Self> {
        Partition::new(clusters)
    }
}

impl From<Partition> for Vec<Vec<usize>> {
    fn from(partition: Partition) -> Self {
        partition.clusters
    }
}

/// How the clusters of a layer are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clustering {
    /// By [`kmeans`]: filters that are already alike, for a trained layer.
    KMeans {
        /// Random starts, of which the tightest result is kept.
        starts: usize,
    },
    /// By [`even`]: for a layer with random weights.
    Even,
    /// By [`imbalanced`]: the paper's control, one large cluster.
    Imbalanced,
}

impl Default for Clustering {
    /// k-means with 10 starts, as scikit-learn had it when the official code was written.
    fn default() -> Self {
        Clustering::KMeans { starts: 10 }
    }
}

impl Clustering {
    /// Partitions the filters `rows` (K rows of `row_len`) into `keep` clusters; only k-means reads the values
    /// and the seed.
    ///
    /// # Errors
    /// As [`even`] and [`kmeans`].
    pub fn partition(self, rows: &[f32], row_len: usize, keep: usize, seed: u64) -> Result<Partition> {
        let channels = row_count(rows, row_len);
        match self {
            Clustering::KMeans { starts } => kmeans(rows, row_len, keep, seed, starts),
            Clustering::Even => even(channels, keep),
            Clustering::Imbalanced => imbalanced(channels, keep),
        }
    }
}

impl fmt::Display for Clustering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clustering::KMeans { .. } => "kmeans",
            Clustering::Even => "even",
            Clustering::Imbalanced => "imbalanced",
        })
    }
}

impl FromStr for Clustering {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "kmeans" => Ok(Clustering::default()),
            "even" => Ok(Clustering::Even),
            "imbalanced" => Ok(Clustering::Imbalanced),
            _ => Err(Error::new(ErrorKind::Argument, "choosing how to cluster filters")
                .expected("kmeans, even or imbalanced")
                .found(format!("{text:?}"))),
        }
    }
}

/// `keep` runs of consecutive channels; the first `channels % keep` runs are one longer.
///
/// # Errors
/// [`ErrorKind::Argument`] unless `1 <= keep <= channels`.
pub fn even(channels: usize, keep: usize) -> Result<Partition> {
    check_keep(channels, keep)?;
    let (length, longer) = (channels / keep, channels % keep);
    let start = |run: usize| run * length + run.min(longer);
    Ok(Partition { clusters: (0..keep).map(|run| (start(run)..start(run + 1)).collect()).collect() })
}

/// The channels `0..=channels - keep` together, the rest alone.
///
/// # Errors
/// [`ErrorKind::Argument`] unless `1 <= keep <= channels`.
pub fn imbalanced(channels: usize, keep: usize) -> Result<Partition> {
    check_keep(channels, keep)?;
    let last = channels - keep;
    let mut clusters = vec![(0..=last).collect()];
    clusters.extend((last + 1..channels).map(|channel| vec![channel]));
    Ok(Partition { clusters })
}

/// k-means: `keep` clusters of the `rows` (each of `row_len` values) with a small sum of squared distances to
/// the cluster means. k-means++ seeding, Lloyd's iterations, the best of `starts` starts.
///
/// A centroid is always the mean of rows, so all that is ever needed follows from the squared distances D
/// between rows, which are computed once: `|x_i - mean_H|^2 = mean_{m in H} D_im - mean_{m,n in H} D_mn / 2`.
/// An iteration then costs K^2 instead of K·keep·row_len. Arithmetic is in f64 and in a fixed order: the same
/// rows and seed give the same clusters everywhere.
///
/// # Errors
/// [`ErrorKind::Argument`] unless `1 <= keep <= K` and `starts >= 1`; [`ErrorKind::Numeric`] if a row holds NaN
/// or infinity.
pub fn kmeans(rows: &[f32], row_len: usize, keep: usize, seed: u64, starts: usize) -> Result<Partition> {
    let channels = row_count(rows, row_len);
    check_keep(channels, keep)?;
    if starts == 0 {
        return Err(Error::new(ErrorKind::Argument, "clustering filters by k-means")
            .expected("at least one start")
            .found("0"));
    }
    for (channel, row) in rows.chunks_exact(row_len).enumerate() {
        if let Some(value) = row.iter().find(|value| !value.is_finite()) {
            return Err(Error::new(ErrorKind::Numeric, "clustering filters by k-means")
                .expected("finite weights")
                .found(format!("{value} in filter {channel}"))
                .next("Train again with a lower learning rate; this network is broken."));
        }
    }
    if keep == channels {
        return Ok(Partition::singletons(channels));
    }
    let distances = Distances::between(rows, row_len);
    let mut best: Option<(f64, Vec<usize>)> = None;
    for start in 0..starts {
        let mut rng = Rng::stream(seed, &[start as u64]);
        let (inertia, labels) = lloyd(&distances, plus_plus(&distances, keep, &mut rng), keep);
        if best.as_ref().is_none_or(|(lowest, _)| inertia < *lowest) {
            best = Some((inertia, labels));
        }
    }
    let (_, labels) = best.expect("starts >= 1");
    Partition::from_labels(&labels)
}

/// How far the members of clusters are from being one filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Deviation {
    /// The paper's chi: the sum over clustered rows of `||F_j - mean_H F||^2`.
    pub chi: f64,
    /// The largest `|F_j - mean_H F|` of any single value.
    pub max_abs: f64,
}

/// Deviation of `rows` (one row of `row_len` values a channel; 1 for gamma, beta, mean and variance) inside the
/// clusters. Exactly 0 if the members of each cluster are bit-identical; NaN if a clustered row holds NaN.
pub fn within_deviation(rows: &[f32], row_len: usize, partition: &Partition) -> Deviation {
    let channels = row_count(rows, row_len);
    assert_eq!(channels, partition.channels(), "rows and partition must have the same channels");
    let mut deviation = Deviation::default();
    let mut mean = vec![0.0; row_len];
    for members in partition.clusters().iter().filter(|members| members.len() > 1) {
        mean.fill(0.0);
        for &channel in members {
            let row = &rows[channel * row_len..][..row_len];
            mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        mean.iter_mut().for_each(|sum| *sum /= members.len() as f64);
        for &channel in members {
            for (&value, mean) in rows[channel * row_len..][..row_len].iter().zip(&mean) {
                let difference = (f64::from(value) - mean).abs();
                deviation.chi += difference * difference;
                if difference > deviation.max_abs || difference.is_nan() {
                    deviation.max_abs = difference;
                }
            }
        }
    }
    deviation
}

fn row_count(rows: &[f32], row_len: usize) -> usize {
    assert!(
        row_len > 0 && rows.len().is_multiple_of(row_len),
        "{} values are not rows of {row_len}",
        rows.len()
    );
    rows.len() / row_len
}

fn check_keep(channels: usize, keep: usize) -> Result<()> {
    if (1..=channels).contains(&keep) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Argument, "clustering filters")
        .expected(format!("a width of 1 to {channels}, the layer's own"))
        .found(keep))
}

/// Squared Euclidean distances between all pairs of rows.
struct Distances {
    count: usize,
    squared: Vec<f64>,
}

impl Distances {
    fn between(rows: &[f32], row_len: usize) -> Self {
        let count = rows.len() / row_len;
        let mut squared = vec![0.0; count * count];
        for i in 0..count {
            for j in 0..i {
                let distance =
                    squared_distance(&rows[i * row_len..][..row_len], &rows[j * row_len..][..row_len]);
                squared[i * count + j] = distance;
                squared[j * count + i] = distance;
            }
        }
        Distances { count, squared }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.squared[i * self.count..][..self.count]
    }
}

/// Eight running sums, so that the compiler may use vector instructions without reordering additions.
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let square = |x: f32, y: f32| {
        let difference = f64::from(x) - f64::from(y);
        difference * difference
    };
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(&x, &y)| square(x, y)).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += square(a[lane], b[lane]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

/// k-means++ (Arthur and Vassilvitskii, 2007): each further seed is drawn with probability proportional to its
/// squared distance to the nearest seed. Returns each row's nearest seed.
fn plus_plus(distances: &Distances, keep: usize, rng: &mut Rng) -> Vec<usize> {
    let count = distances.count;
    let first = rng.below(count);
    let mut nearest = distances.row(first).to_vec();
    let mut labels = vec![0; count];
    for seed in 1..keep {
        let total: f64 = nearest.iter().sum();
        // Fewer distinct rows than seeds: Lloyd's empty-cluster rule shares out the copies.
        if total <= 0.0 {
            break;
        }
        let mut left = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total;
        let mut chosen = None;
        for (row, &weight) in nearest.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            chosen = Some(row);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        let chosen = chosen.expect("a positive total has a positive term");
        for (row, &distance) in distances.row(chosen).iter().enumerate() {
            if distance < nearest[row] {
                nearest[row] = distance;
                labels[row] = seed;
            }
        }
    }
    labels
}

/// Lloyd's iterations from `labels` until nothing moves: `(inertia, labels)` with exactly `keep` clusters.
fn lloyd(distances: &Distances, mut labels: Vec<usize>, keep: usize) -> (f64, Vec<usize>) {
    let mut clusters = Clusters::new(distances, labels.clone(), keep);
    for _ in 0..MAX_ITERATIONS {
        clusters.measure();
        if clusters.sizes.contains(&0) {
            clusters.fill_empty();
            clusters.measure();
        }
        labels.clone_from(&clusters.labels);
        for row in 0..distances.count {
            clusters.labels[row] = clusters.closest(row);
        }
        if clusters.labels == labels {
            break;
        }
    }
    // The last reassignment may have emptied a cluster; `labels` is from before it and has none.
    let inertia = (0..distances.count).map(|row| clusters.distance(row, labels[row])).sum();
    (inertia, labels)
}

/// One state of Lloyd's algorithm.
struct Clusters<'a> {
    distances: &'a Distances,
    keep: usize,
    labels: Vec<usize>,
    sizes: Vec<usize>,
    /// `mean_{m in H} D_im`, row-major `[rows, keep]`.
    to_members: Vec<f64>,
    /// `mean_{m,n in H} D_mn / 2`.
    spread: Vec<f64>,
}

impl<'a> Clusters<'a> {
    fn new(distances: &'a Distances, labels: Vec<usize>, keep: usize) -> Self {
        let to_members = vec![0.0; distances.count * keep];
        Clusters { distances, keep, labels, sizes: vec![0; keep], to_members, spread: vec![0.0; keep] }
    }

    /// Recomputes sizes, mean distances and spreads from the labels.
    fn measure(&mut self) {
        self.sizes.fill(0);
        self.labels.iter().for_each(|&label| self.sizes[label] += 1);
        self.to_members.fill(0.0);
        self.spread.fill(0.0);
        for row in 0..self.distances.count {
            let means = &mut self.to_members[row * self.keep..][..self.keep];
            for (&distance, &label) in self.distances.row(row).iter().zip(&self.labels) {
                means[label] += distance;
            }
            means.iter_mut().zip(&self.sizes).for_each(|(sum, &size)| *sum /= size.max(1) as f64);
            let own = self.labels[row];
            self.spread[own] += means[own] / (2.0 * self.sizes[own] as f64);
        }
    }

    /// Squared distance of a row to the mean of a cluster that is not empty.
    fn distance(&self, row: usize, cluster: usize) -> f64 {
        (self.to_members[row * self.keep + cluster] - self.spread[cluster]).max(0.0)
    }

    /// The closest cluster; the present one if none is closer, so that ties never move a row.
    fn closest(&self, row: usize) -> usize {
        let own = self.labels[row];
        let mut best = (own, self.distance(row, own));
        for cluster in 0..self.keep {
            let distance = self.distance(row, cluster);
            if distance < best.1 {
                best = (cluster, distance);
            }
        }
        best.0
    }

    /// Gives each empty cluster one of the rows farthest from their means, of clusters that can spare one.
    fn fill_empty(&mut self) {
        let own: Vec<f64> =
            (0..self.distances.count).map(|row| self.distance(row, self.labels[row])).collect();
        let farthest = sort::order(own.len(), &|a, b| own[b].total_cmp(&own[a]));
        let mut empty: Vec<usize> =
            (0..self.keep).rev().filter(|&cluster| self.sizes[cluster] == 0).collect();
        for row in farthest {
            let Some(&cluster) = empty.last() else { break };
            if self.sizes[self.labels[row]] > 1 {
                self.sizes[self.labels[row]] -= 1;
                self.labels[row] = cluster;
                self.sizes[cluster] = 1;
                empty.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_rows(count: usize, row_len: usize, seed: u64) -> Vec<f32> {
        let mut rng = Rng::new(seed);
        (0..count * row_len).map(|_| rng.normal()).collect()
    }

    #[test]
    fn constructors_put_clusters_in_order() {
        let partition = Partition::new(vec![vec![4, 1], vec![3], vec![2, 0]]).unwrap();
        assert_eq!(partition.clusters(), [vec![0, 2], vec![1, 4], vec![3]]);
        assert_eq!(partition.survivors(), [0, 1, 3]);
        assert_eq!(partition.cluster_of(), [0, 1, 0, 2, 1]);
        assert_eq!((partition.len(), partition.channels(), partition.is_trivial()), (3, 5, false));
        assert_eq!(Partition::from_labels(&[9, 4, 9, 7, 4]).unwrap(), partition);
        assert!(Partition::singletons(3).is_trivial());
    }

    #[test]
    fn constructors_reject_what_is_no_partition() {
        let message = |clusters| Partition::new(clusters).unwrap_err().to_string();
        assert!(message(vec![]).contains("no clusters"));
        assert!(message(vec![vec![0], vec![]]).contains("empty cluster at position 1"));
        assert!(message(vec![vec![0, 1], vec![1]]).contains("channel 1 twice"));
        assert!(message(vec![vec![0, 5]]).contains("channel 5 among only 2"));
        assert!(Partition::from_labels(&[]).is_err());
    }

    #[test]
    fn serialised_as_lists_and_checked_when_read() {
        let partition = even(5, 2).unwrap();
        let json = serde_json::to_string(&partition).unwrap();
        assert_eq!(json, "[[0,1,2],[3,4]]");
        assert_eq!(serde_json::from_str::<Partition>(&json).unwrap(), partition);
        let error = serde_json::from_str::<Partition>("[[0,1],[1]]").unwrap_err();
        assert!(error.to_string().contains("channel 1 twice"), "{error}");
    }

    #[test]
    fn even_runs_and_one_large_cluster() {
        assert_eq!(even(8, 3).unwrap().clusters(), [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]);
        assert_eq!(imbalanced(5, 3).unwrap().clusters(), [vec![0, 1, 2], vec![3], vec![4]]);
        for channels in 1..12 {
            assert!(even(channels, channels).unwrap().is_trivial());
            assert!(imbalanced(channels, channels).unwrap().is_trivial());
            for keep in 1..=channels {
                for partition in [even(channels, keep).unwrap(), imbalanced(channels, keep).unwrap()] {
                    assert_eq!(Partition::new(partition.clusters().to_vec()).unwrap(), partition);
                    assert_eq!((partition.len(), partition.channels()), (keep, channels));
                }
            }
        }
    }

    #[test]
    fn widths_that_cannot_be_are_refused() {
        let rows = random_rows(4, 3, 1);
        for keep in [0, 5] {
            for clustering in [Clustering::default(), Clustering::Even, Clustering::Imbalanced] {
                let error = clustering.partition(&rows, 3, keep, 0).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("clustering filters: expected a width of 1 to 4, the layer's own, found {keep}")
                );
            }
        }
        assert!(kmeans(&rows, 3, 2, 0, 0).is_err());
    }

    #[test]
    fn kmeans_names_the_filter_that_is_not_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut rows = random_rows(6, 4, 2);
            rows[3 * 4 + 1] = bad;
            let error = kmeans(&rows, 4, 2, 0, 3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Numeric);
            assert!(error.to_string().contains("in filter 3"), "{error}");
        }
    }

    #[test]
    fn kmeans_finds_blobs_whatever_the_seed() {
        let centres = random_rows(5, 12, 3);
        let noise = random_rows(40, 12, 4);
        let rows: Vec<f32> =
            noise.iter().enumerate().map(|(i, x)| 20.0 * centres[i / 12 % 5 * 12 + i % 12] + x).collect();
        let labels: Vec<usize> = (0..40).map(|row| row % 5).collect();
        for seed in 0..20 {
            assert_eq!(kmeans(&rows, 12, 5, seed, 10).unwrap(), Partition::from_labels(&labels).unwrap());
        }
    }

    #[test]
    fn kmeans_keeps_exactly_the_width_of_identical_rows() {
        for keep in 1..=9 {
            let partition = kmeans(&[0.25; 9 * 4], 4, keep, 5, 2).unwrap();
            assert_eq!((partition.len(), partition.channels()), (keep, 9));
        }
        let two_kinds: Vec<f32> = (0..10).flat_map(|row| [(row % 2) as f32; 3]).collect();
        let partition = kmeans(&two_kinds, 3, 6, 5, 2).unwrap();
        assert_eq!(partition.len(), 6);
        assert_eq!(within_deviation(&two_kinds, 3, &partition).chi, 0.0);
    }

    #[test]
    fn kmeans_ends_where_every_row_is_at_its_nearest_mean() {
        let (count, row_len, keep) = (64, 27, 20);
        let rows = random_rows(count, row_len, 6);
        let partition = kmeans(&rows, row_len, keep, 7, 1).unwrap();
        assert_eq!(partition, kmeans(&rows, row_len, keep, 7, 1).unwrap());
        assert_eq!(partition.len(), keep);
        let mean = |members: &[usize], column: usize| {
            members.iter().map(|row| f64::from(rows[row * row_len + column])).sum::<f64>()
                / members.len() as f64
        };
        for (row, own) in partition.cluster_of().into_iter().enumerate() {
            let to = |members: &Vec<usize>| -> f64 {
                (0..row_len).map(|c| (f64::from(rows[row * row_len + c]) - mean(members, c)).powi(2)).sum()
            };
            let nearest = partition.clusters().iter().map(to).fold(f64::INFINITY, f64::min);
            assert!(to(&partition.clusters()[own]) <= nearest + 1e-9, "row {row}");
        }
    }

    #[test]
    fn more_starts_are_never_worse_and_beat_even() {
        let rows = random_rows(48, 9, 8);
        let chi = |partition: &Partition| within_deviation(&rows, 9, partition).chi;
        let once = chi(&kmeans(&rows, 9, 16, 1, 1).unwrap());
        let often = chi(&kmeans(&rows, 9, 16, 1, 10).unwrap());
        assert!(often <= once + 1e-9, "{often} {once}");
        assert!(often < 0.8 * chi(&even(48, 16).unwrap()));
    }

    #[test]
    fn a_wide_layer_is_clustered_quickly() {
        let rows = random_rows(512, 4608, 9);
        let begin = std::time::Instant::now();
        assert_eq!(kmeans(&rows, 4608, 320, 1, 10).unwrap().len(), 320);
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
    }

    #[test]
    fn deviation_is_measured_from_the_mean_of_clustered_rows() {
        let rows = [1.0, 2.0, 9.0, 9.0, 3.0, 2.0];
        let partition = Partition::new(vec![vec![0, 2], vec![1]]).unwrap();
        assert_eq!(within_deviation(&rows, 2, &partition), Deviation { chi: 2.0, max_abs: 1.0 });
        let same = [0.1_f32; 7];
        assert_eq!(within_deviation(&same, 1, &even(7, 1).unwrap()), Deviation::default());
        let broken = within_deviation(&[1.0, f32::NAN, 2.0], 1, &even(3, 1).unwrap());
        assert!(broken.chi.is_nan() && broken.max_abs.is_nan());
    }

    #[test]
    fn clustering_by_name() {
        for clustering in [Clustering::default(), Clustering::Even, Clustering::Imbalanced] {
            assert_eq!(clustering.to_string().parse::<Clustering>().unwrap(), clustering);
        }
        assert!("k-mode".parse::<Clustering>().is_err());
    }
}
