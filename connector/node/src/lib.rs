//! A node: configuration, stores, drivers and servers.
