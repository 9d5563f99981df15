//! A data set that is made in no time, and trials on it.

use std::path::{Path, PathBuf};

use sortie_core::finetune::{Backbone, FinetunePoint, FinetuneSpec, Settings};
use sortie_core::trial::{DatasetSpec, Layout, MissingClasses, SplitBy};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

pub fn tiny() -> DatasetSpec {
    DatasetSpec {
        name: "Tiny".into(),
        domains: words("ink oil pen"),
        classes: words("bars discs"),
        split_by: SplitBy::Image,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
    }
}

pub fn spec(dataset: DatasetSpec, held_out: &str) -> FinetuneSpec {
    let settings = Settings {
        pixels: 32,
        steps: 3,
        batch_per_domain: 4,
        evaluate_every: 2,
        milestones: vec![2],
        ..Settings::reference(dataset, Backbone::EfficientNetLite0)
    };
    let held_out = words(held_out);
    let point = FinetunePoint {
        held_out,
        dropout: 0.5,
        lr: 1e-2,
        weight_decay: 1e-4,
        head_lr_factor: 1.0,
        seed: 0,
        split_seed: 0,
    };
    FinetuneSpec { settings, point }
}

/// Three domains of 2 x 6 images of two sizes: bars or discs, in each domain's colour.
pub fn write_tiny(root: &Path) {
    for (domain, colour) in [("ink", [20, 20, 90]), ("oil", [200, 120, 30]), ("pen", [90, 200, 90])] {
        for class in ["bars", "discs"] {
            let folder = root.join("Tiny").join(domain).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for index in 0..6_u32 {
                let image = image::RgbImage::from_fn(40 + index % 2 * 8, 36, |x, y| {
                    let disc = x.abs_diff(20).pow(2) + y.abs_diff(18).pow(2) < 100 + 20 * index;
                    let inside = if class == "bars" { (x + index) % 8 < 4 } else { disc };
                    image::Rgb(if inside { colour } else { [240 - 5 * index as u8; 3] })
                });
                image.save(folder.join(format!("{index}.png"))).unwrap();
            }
        }
    }
}

/// A cache folder below `root` that has the pretrained weights of the real one and is otherwise the test's own.
pub fn own_cache(root: &Path, weights: &Path) -> PathBuf {
    let cache = root.join("cache");
    if !cache.exists() {
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(weights.join("weights"), cache.join("weights")).unwrap();
    }
    cache
}
