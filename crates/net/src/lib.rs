//! Networks of pods: links, addresses, routes, firewall rules, address pools, CNI plugins.

#![forbid(unsafe_code)]
