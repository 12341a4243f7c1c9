//! The store: its locks, modes, collection and verification.
