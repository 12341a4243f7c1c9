//! Weights as safetensors, under PyTorch's parameter names and shapes, so that
//! `model.load_state_dict(safetensors.torch.load_file("model.safetensors"))` works as it is.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::architecture::{Architecture, Parameter};

/// Writes `weights`, in the order of [`Architecture::parameters`], to a safetensors file.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// When there are not as many weights as the architecture has.
pub fn write(path: &Path, network: &Architecture, weights: &[f32]) -> Result<(), StageError> {
    fs::write(path, bytes(path, network, weights)?).or_fail("cannot write", path)
}

/// The bytes of that file; `path` is where they are meant to go.
///
/// # Errors
/// When they cannot be laid out.
///
/// # Panics
/// As [`write()`].
pub fn bytes(path: &Path, network: &Architecture, weights: &[f32]) -> Result<Vec<u8>, StageError> {
    let parameters = network.parameters();
    assert_eq!(weights.len(), network.weights());
    let tensors: Vec<_> = parameters
        .iter()
        .map(|p| (p.name.as_str(), p.shape.clone(), &weights[p.range.clone()]))
        .collect();
    to_bytes(&tensors, path)
}

/// Reads what [`write()`] wrote, or what PyTorch saved under the same names.
///
/// # Errors
/// When the file is missing or damaged, or a parameter is absent or of another shape or type.
pub fn read(path: &Path, network: &Architecture) -> Result<Vec<f32>, StageError> {
    let bytes = fs::read(path).or_fail("cannot read", path)?;
    let file = SafeTensors::deserialize(&bytes).or_fail("not a safetensors file", path)?;
    let mut weights = vec![0.0; network.weights()];
    for Parameter { name, shape, range, .. } in network.parameters() {
        let tensor = file.tensor(&name).or_fail(&format!("no parameter `{name}`"), path)?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            let (dtype, found) = (tensor.dtype(), tensor.shape());
            return Err(StageError::new(format!(
                "parameter `{name}` is {dtype:?} {found:?}, expected F32 {shape:?}"
            ))
            .at(path));
        }
        weights[range].copy_from_slice(&floats(tensor.data()));
    }
    Ok(weights)
}

/// The bytes of a safetensors file of flat f32 tensors.
///
/// # Errors
/// When they cannot be laid out; `path` is where they are meant to go.
pub fn flat_bytes(tensors: &[(&str, &Vec<f32>)], path: &Path) -> Result<Vec<u8>, StageError> {
    let tensors: Vec<_> =
        tensors.iter().map(|(name, data)| (*name, vec![data.len()], data.as_slice())).collect();
    to_bytes(&tensors, path)
}

/// The flat f32 tensors of these names.
///
/// # Errors
/// When the bytes are no safetensors file, or a tensor is absent or of another type.
pub fn from_flat_bytes<const N: usize>(
    bytes: &[u8],
    names: [&str; N],
) -> Result<[Vec<f32>; N], String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut found = [const { Vec::new() }; N];
    for (name, slot) in names.iter().zip(&mut found) {
        let tensor = file.tensor(name).map_err(|e| e.to_string())?;
        if tensor.dtype() != Dtype::F32 {
            return Err(format!("tensor `{name}` is {:?}, expected F32", tensor.dtype()));
        }
        *slot = floats(tensor.data());
    }
    Ok(found)
}

fn to_bytes(tensors: &[(&str, Vec<usize>, &[f32])], path: &Path) -> Result<Vec<u8>, StageError> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., data)| data.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), data)| {
            Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data)?))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .or_fail("cannot lay out weights", path)?;
    // PyTorch's own marker: some loaders ask for it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).or_fail("cannot lay out weights", path)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_survive_and_bytes_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let network = Architecture::default();
        let weights: Vec<f32> = (0..network.weights()).map(|i| i as f32 * 0.5).collect();
        write(&a, &network, &weights).unwrap();
        write(&b, &network, &weights).unwrap();
        assert_eq!(read(&a, &network).unwrap(), weights);
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }

    #[test]
    fn a_missing_or_misshapen_parameter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w");
        let some = vec![0.0; 450];
        fs::write(&path, flat_bytes(&[("conv1.weight", &some)], &path).unwrap()).unwrap();
        let error = read(&path, &Architecture::default()).unwrap_err();
        assert_eq!(error.what, "parameter `conv1.weight` is F32 [450], expected F32 [6, 3, 5, 5]");
        fs::write(&path, b"no tensors").unwrap();
        let error = read(&path, &Architecture::default()).unwrap_err();
        assert!(error.what.starts_with("not a safetensors file"));
    }
}
