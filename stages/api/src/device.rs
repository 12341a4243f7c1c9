//! The device that a backend computes on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `device:` of pipeline.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// `cpu`: one core a task.
    #[default]
    Cpu,
    /// `cuda:N`: the GPU of that number, from 0.
    Cuda(u16),
}

impl Device {
    /// Whether it is the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |n: &&str| n.bytes().all(|b| b.is_ascii_digit());
        let index = text.strip_prefix("cuda:").filter(digits).and_then(|n| n.parse().ok());
        match index {
            Some(index) => Ok(Self::Cuda(index)),
            None if text == "cpu" => Ok(Self::Cpu),
            None => Err(format!("a device is `cpu` or `cuda:N`, and this is `{text}`")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_does() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(65_535)] {
            assert_eq!(device.to_string().parse(), Ok(device));
            let json = serde_json::to_string(&device).unwrap();
            assert_eq!(serde_json::from_str::<Device>(&json).unwrap(), device);
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:65536", "CPU"] {
            assert!(text.parse::<Device>().unwrap_err().contains(text), "{text}");
        }
    }
}
