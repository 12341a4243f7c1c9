//! Programs of `command` stages: what they are given, how they end, and what is kept of them.
