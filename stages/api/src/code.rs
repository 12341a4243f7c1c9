//! The code fingerprint of a stage, as its `build.rs` baked it.

use std::collections::BTreeMap;

/// What a stage is compiled from: source paths to blake3 digests, third-party crates to versions.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Code(pub BTreeMap<String, String>);

impl Code {
    /// Reads the JSON that `dissim_fingerprint::bake` wrote; see [`code!`](crate::code).
    ///
    /// # Panics
    /// When the text is not such JSON, which only a broken build can cause.
    #[must_use]
    pub fn from_baked(json: &str) -> Self {
        serde_json::from_str(json).expect("build.rs bakes a map of strings")
    }

    /// The fingerprint: blake3 over the manifest's canonical JSON, in hex.
    #[must_use]
    pub fn digest(&self) -> String {
        let json = serde_json::to_vec(&self.0).expect("strings serialise");
        blake3::hash(&json).to_hex().to_string()
    }
}

/// The [`Code`] of the crate it is used in, whose `build.rs` must call `dissim_fingerprint::bake()`.
#[macro_export]
macro_rules! code {
    () => {
        $crate::Code::from_baked(include_str!(concat!(env!("OUT_DIR"), "/code.json")))
    };
}
