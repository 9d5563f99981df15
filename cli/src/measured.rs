//! The flags that say what is measured of a trial.

use sortie_analysis::OodSplit;
use sortie_core::metrics::Method;

/// Options of what is measured of a trial.
#[derive(Debug, clap::Args)]
pub struct MeasuredArguments {
    /// The weights used: plain (those after the step), average (of the weights over steps) or ensemble (of the logits over steps).
    #[arg(long, default_value_t = Method::Plain)]
    pub method: Method,
    /// The part of the held-out domain on which o.o.d. accuracy is measured: in, out (its train/validation split, 80/20) or all. The default
    /// is in; it is out for datasets that are split by object, because other domains trained on the objects of `in`.
    #[arg(long, value_name = "SPLIT")]
    pub ood_split: Option<OodSplit>,
}
