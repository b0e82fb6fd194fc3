//! The vocabulary: identities, specs, orders, resources, CPU sets, statuses, reasons.
