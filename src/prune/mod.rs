//! Clusters, coupling criteria, surgery and the certificate.

pub mod certificate;
pub mod cluster;
mod clusters;
pub mod criteria;
pub mod surgery;
pub mod target;
pub mod width;

pub use certificate::{Certificate, Comparison, LOSSLESS_LOGITS, LayerReport, Stages, certify};
pub use cluster::{Clustering, Partition};
pub use clusters::{ClusterPlan, Clusters, Pace};
