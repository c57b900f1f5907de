//! Load generator and checker.
