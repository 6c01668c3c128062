//! Clusters, coupling criteria, surgery and the certificate.

pub mod cluster;
pub mod width;
