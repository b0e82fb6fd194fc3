//! berth, for the platform's operator, and berthctl, for who debugs one node.
