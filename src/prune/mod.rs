//! Clusters, coupling criteria, surgery and the certificate.
