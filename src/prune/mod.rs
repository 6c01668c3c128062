//! Clusters, coupling criteria, surgery and the certificate.

pub mod cluster;
mod clusters;
pub mod surgery;
pub mod width;

pub use cluster::{Clustering, Partition};
pub use clusters::{ClusterPlan, Clusters, Pace};
