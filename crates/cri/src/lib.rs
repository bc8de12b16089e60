//! The CRI services over pods and images: one file a group of calls.

#![forbid(unsafe_code)]
