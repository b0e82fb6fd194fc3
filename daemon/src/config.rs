//! Configuration: /etc/berth/berthd.toml.
