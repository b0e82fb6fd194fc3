//! Order admission, and the node's next step, as pure functions.
