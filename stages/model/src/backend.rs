//! The compute backends of this build, by the names that pipeline.yaml gives them.

use burn::tensor;
use dissim_api::{Device, StageError};

/// The backends of this build; the first is the default.
pub const BACKENDS: &[&str] = if cfg!(feature = "tch") { &["flex", "tch"] } else { &["flex"] };

/// How to build dissim with libtorch.
pub const HOW_TO_TCH: &str =
    "build dissim with libtorch: stages/model/libtorch.sh cargo build --release --features tch";

/// The library behind a backend with its version, where it is not a crate.
#[must_use]
pub fn library(backend: &str) -> Option<String> {
    let version = option_env!("DISSIM_LIBTORCH").filter(|_| backend == "tch")?;
    Some(format!("libtorch {version}"))
}

/// Where a network is computed.
#[derive(Debug, Clone)]
pub struct Backend {
    device: tensor::Device,
    fused: bool,
}

impl Backend {
    /// burn's `flex`, and beside it the kernel of `dissim-kernel`.
    #[must_use]
    pub fn flex() -> Self {
        Self { device: tensor::Device::flex(), fused: true }
    }

    /// The backend of that name on a device.
    ///
    /// # Errors
    /// When this build has no such backend, or the machine no such device.
    pub fn open(name: &str, device: Device) -> Result<Self, StageError> {
        match (name, device) {
            ("flex", Device::Cpu) => Ok(Self::flex()),
            ("flex", _) => Err(StageError::new(format!("backend `flex` has no device `{device}`"))
                .help("write `backend: tch` for a GPU, or leave `device` out")),
            ("tch", _) => libtorch(device),
            _ => Err(StageError::new(format!("no backend `{name}` in this build"))),
        }
    }

    /// burn's own device.
    #[must_use]
    pub fn device(&self) -> &tensor::Device {
        &self.device
    }

    /// Whether `dissim-kernel` is the faster way to compute on it.
    #[must_use]
    pub fn fused(&self) -> bool {
        self.fused
    }
}

#[cfg(not(feature = "tch"))]
fn libtorch(_: Device) -> Result<Backend, StageError> {
    Err(StageError::new("this build has no backend `tch`").help(HOW_TO_TCH))
}

/// libtorch on one thread: the runner starts as many tasks as there are cores.
#[cfg(feature = "tch")]
#[expect(deprecated, reason = "burn means to drop libtorch one day; 0.22.1 still has it")]
fn libtorch(device: Device) -> Result<Backend, StageError> {
    tch::set_num_threads(1);
    let device = match device {
        Device::Cpu => tensor::Device::libtorch(),
        Device::Cuda(index) => {
            let found = tch::Cuda::device_count();
            if i64::from(index) >= found {
                let what = format!("no GPU for `device: {device}`: libtorch finds {found}");
                return Err(StageError::new(what).help(GPU_HELP));
            }
            tensor::Device::libtorch_cuda(usize::from(index))
        }
    };
    Ok(Backend { device, fused: false })
}

#[cfg(feature = "tch")]
const GPU_HELP: &str = "`nvidia-smi` lists the GPUs; what stages/model/libtorch.sh downloads is for CPUs, \
     for a GPU build with LIBTORCH at a libtorch that has CUDA; or write `device: cpu`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_said() {
        let error = |name, device| Backend::open(name, device).unwrap_err().to_string();
        assert_eq!(
            error("flex", Device::Cuda(1)),
            "backend `flex` has no device `cuda:1`\n  help: write `backend: tch` for a GPU, or leave `device` out"
        );
        assert_eq!(error("flax", Device::Cpu), "no backend `flax` in this build");
        // Further than any machine's GPUs go.
        let gpu = error("tch", Device::Cuda(999));
        if cfg!(feature = "tch") {
            assert!(gpu.starts_with("no GPU for `device: cuda:999`: libtorch finds "), "{gpu}");
            assert!(library("tch").unwrap().starts_with("libtorch 2."));
        } else {
            assert_eq!(
                gpu,
                "this build has no backend `tch`\n  help: build dissim with libtorch: \
                 stages/model/libtorch.sh cargo build --release --features tch"
            );
        }
        assert_eq!(library("flex"), None);
    }
}
