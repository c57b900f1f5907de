//! The HTTP front end and the owner loops.
