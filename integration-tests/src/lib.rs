//! Tests over real binaries.
