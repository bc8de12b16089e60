//! How an OCI runtime behaves: one module a topic.

mod smoke;
