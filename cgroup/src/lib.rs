//! cgroup v2: limits to file writes, apply and verify, statistics and pressure.
