//! What travels: remote stores, bundles, and code fingerprints.
