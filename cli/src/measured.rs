//! The flags that say what is measured of a trial.

use anyhow::{Result, bail};
use sortie_analysis::{MetricChoice, OodSplit};
use sortie_core::metrics::{Method, Metric};
use sortie_core::spec::SweepSpec;

use crate::connection::Client;

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
    #[command(flatten)]
    pub metric: MetricArguments,
}

/// Options of which number of an evaluation is read.
#[derive(Debug, clap::Args)]
pub struct MetricArguments {
    /// The metric to show: accuracy (the default), loss, or a metric that the sweep file has under `[metrics]`.
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,
    /// The metric on the validation splits by which steps and best settings are selected; by default the one that is shown.
    #[arg(long, value_name = "NAME")]
    pub select_metric: Option<String>,
}

impl MetricArguments {
    /// The metrics, by what the sweep says of them.
    ///
    /// # Errors
    /// One line: the sweep does not know one, or the coordinator refuses.
    pub async fn choice(
        &self,
        client: &mut Client,
        sweep: &str,
        ood_split: Option<OodSplit>,
    ) -> Result<MetricChoice> {
        if self.given().next().is_none() {
            return Ok(MetricChoice::ACCURACY);
        }
        self.choice_of(&client.describe(sweep).await?, ood_split)
    }

    /// The same for a sweep that is known.
    ///
    /// # Errors
    /// One line: the sweep does not know one.
    pub fn choice_of(&self, spec: &SweepSpec, ood_split: Option<OodSplit>) -> Result<MetricChoice> {
        let Self { metric, select_metric } = self;
        let named = |name: &Option<String>| name.as_deref().map(|name| spec.metric(name)).transpose();
        let (shown, selected_by) = match (named(metric), named(select_metric)) {
            (Ok(shown), Ok(selected_by)) => (shown, selected_by),
            (Err(why), _) => bail!("--metric: {why}"),
            (_, Err(why)) => bail!("--select-metric: {why}"),
        };
        let shown = shown.unwrap_or(Metric::ACCURACY);
        if ood_split == Some(OodSplit::All) && !shown.is_accuracy() {
            bail!(
                "--ood-split all: the {} of two splits does not add up to one of all images; allowed with --metric {}: in, out",
                shown.name(),
                shown.name()
            );
        }
        Ok(MetricChoice { selected_by: selected_by.unwrap_or_else(|| shown.clone()), shown })
    }

    /// The flags that were given, as a command line has them.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let flags = [("--metric", &self.metric), ("--select-metric", &self.select_metric)];
        flags.into_iter().filter_map(|(flag, name)| Some((flag, name.as_deref()?)))
    }
}
