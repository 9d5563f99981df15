//! `sortie weights`: which pretrained weights there are, and how they get into the cache folder.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::model::{self, FetchError, FetchRequest, Normalisation, registry};
use sortie_core::finetune::Backbone;
use sortie_core::pipe::FetchWeightsRequest;

/// Lists the networks, and whether their weights are there.
pub fn run_list(cache: &Path) -> ExitCode {
    print!("{}", list(cache));
    ExitCode::SUCCESS
}

fn failed(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}

/// Puts weights into the cache folder and says where they are.
pub fn run_fetch(request: &FetchWeightsRequest) -> ExitCode {
    let FetchWeightsRequest { cache, backbone, from, sha256, name } = request;
    let request = FetchRequest {
        cache,
        backbone: *backbone,
        from: from.as_deref(),
        sha256: sha256.as_deref(),
        name: name.as_deref(),
    };
    let mut progress = Progress { terminal: std::io::stderr().is_terminal(), shown: None };
    let fetched = model::fetch(&request, &mut |done, total| progress.show(done, total));
    progress.end();
    match fetched {
        Ok(fetched) => {
            let how = if fetched.was_there { "was there already" } else { "is there" };
            println!("{} {how}, SHA-256 {}", fetched.path.display(), fetched.sha256);
            println!("read as {backbone}: {}", fetched.contents);
            ExitCode::SUCCESS
        }
        Err(error @ FetchError::Usage(_)) => failed(&error, 2),
        Err(error) => failed(&error, 1),
    }
}

/// One line that is rewritten on a terminal, a line at each quarter elsewhere.
struct Progress {
    terminal: bool,
    /// The last share in percent, or the last count of MiB where the total is not known.
    shown: Option<u64>,
}

impl Progress {
    fn show(&mut self, done: u64, total: Option<u64>) {
        let step = total.filter(|&total| total > 0).map_or(done >> 20, |total| done * 100 / total);
        let coarse = if self.terminal { step } else { step / 25 * 25 };
        if self.shown == Some(coarse) {
            return;
        }
        self.shown = Some(coarse);
        let of = total.map_or_else(String::new, |total| format!(" of {:.1}", mib(total)));
        let (start, end) = if self.terminal { ("\r", "") } else { ("", "\n") };
        eprint!("{start}{:.1}{of} MiB{end}", mib(done));
    }

    fn end(&self) {
        if self.terminal && self.shown.is_some() {
            eprintln!();
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn list(cache: &Path) -> String {
    let mut text =
        format!("{:<20} {:>6} {:>8}  {:<20} {}\n", "BACKBONE", "PIXELS", "FEATURES", "INPUT", "WEIGHTS");
    for &backbone in Backbone::ALL {
        let facts = model::facts(backbone);
        let weights = match model::find_weights(cache, backbone.as_str(), backbone) {
            Ok(path) => path.display().to_string(),
            Err(_) if !backbone.is_pretrained() => "none; starts from scratch".to_owned(),
            Err(_) => format!("not there; {}", registry::advice(backbone)),
        };
        let (name, input) = (backbone.as_str(), input(&facts.normalisation));
        text += &format!("{name:<20} {:>6} {:>8}  {input:<20} {weights}\n", backbone.pixels(), facts.width);
    }
    text
}

/// What is done to a colour value of 0..=255.
fn input(normalisation: &Normalisation) -> String {
    let Normalisation { mean, deviation } = *normalisation;
    if *normalisation == Normalisation::IMAGENET {
        return "ImageNet's mean, std".to_owned();
    }
    if mean[0] == 0.0 {
        format!("x / {:.0}", 255.0 * deviation[0])
    } else {
        format!("(x - {:.0}) / {:.0}", 255.0 * mean[0], 255.0 * deviation[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_is_there() {
        let cache = tempfile::tempdir().unwrap();
        std::fs::create_dir(cache.path().join("weights")).unwrap();
        std::fs::write(cache.path().join("weights/resnet50-v2.pth"), b"").unwrap();
        let text = list(cache.path());
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert_eq!(text.lines().count(), 1 + Backbone::ALL.len());
        assert!(
            line("resnet50-v2").contains("  224     2048  ImageNet's mean, std")
                && line("resnet50-v2").ends_with("resnet50-v2.pth")
        );
        assert!(line("resnet50-v1").ends_with("not there; `sortie weights fetch resnet50-v1` fetches them"));
        assert!(line("efficientnet-lite2").contains("260     1280  (x - 127) / 128"));
        assert!(
            line("mnist-cnn").contains("28      128  x / 255")
                && line("mnist-cnn").ends_with("none; starts from scratch")
        );
    }
}
