//! A trial's own settings, where its sweep varies some.

use std::borrow::Cow;
use std::str::FromStr;

use super::{Backbone, BatchNorm, Finetune, Following, Optimizer, Schedule, Setting, Settings};
use crate::parameters::{Parameters, Scalar};

impl Settings {
    /// The settings of a trial of the sweep: with the values that the trial has on axes of settings, and the defaults that follow from them.
    pub fn at(&self, parameters: &Parameters) -> Cow<'_, Self> {
        let varied = |setting: &Setting| Some((*setting, parameters.get(setting.as_str())?));
        let mut varied = Setting::ALL.iter().filter_map(varied).peekable();
        if varied.peek().is_none() && self.following.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut own = self.clone();
        for (setting, value) in varied {
            setting.set(value, &mut own);
        }
        for following in std::mem::take(&mut own.following) {
            following.follow(&mut own);
        }
        Cow::Owned(own)
    }
}

impl Setting {
    /// Its value.
    pub fn of(self, settings: &Settings) -> Scalar {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let whole = |number: u64| Scalar::Number((number as f64).into());
        match self {
            Self::Augment => Scalar::Flag(settings.augment),
            Self::Backbone => text(settings.backbone.as_str()),
            Self::BatchPerDomain => whole(settings.batch_per_domain.into()),
            Self::Finetune => text(settings.finetune.as_str()),
            Self::Optimizer => text(settings.optimizer.as_str()),
            Self::Pixels => whole(settings.pixels.into()),
            Self::Precision => text(settings.precision.as_str()),
            Self::Schedule => text(settings.schedule.as_str()),
            Self::Steps => whole(settings.steps),
            Self::Weights => text(&settings.weights),
        }
    }

    /// Whether this is one of its values.
    pub fn allows(self, value: &Scalar, settings: &Settings) -> bool {
        let mut own = settings.clone();
        self.set(value, &mut own);
        self.of(&own) == *value
    }

    /// Sets it. What is no value of it was refused with the sweep, and changes nothing.
    fn set(self, value: &Scalar, settings: &mut Settings) {
        match (self, value) {
            (Self::Augment, Scalar::Flag(flag)) => settings.augment = *flag,
            (Self::Backbone, Scalar::Text(name)) => put(&mut settings.backbone, name),
            (Self::Finetune, Scalar::Text(name)) => put(&mut settings.finetune, name),
            (Self::Optimizer, Scalar::Text(name)) => put(&mut settings.optimizer, name),
            (Self::Precision, Scalar::Text(name)) => put(&mut settings.precision, name),
            (Self::Schedule, Scalar::Text(name)) => put(&mut settings.schedule, name),
            (Self::Weights, Scalar::Text(name)) => settings.weights.clone_from(name),
            // Whole numbers in this range, which a cast keeps.
            (Self::BatchPerDomain, Scalar::Number(number)) => settings.batch_per_domain = number.get() as u32,
            (Self::Pixels, Scalar::Number(number)) => settings.pixels = number.get() as u32,
            (Self::Steps, Scalar::Number(number)) => settings.steps = number.get() as u64,
            _ => {}
        }
    }
}

fn put<T: FromStr>(place: &mut T, name: &str) {
    if let Ok(value) = name.parse() {
        *place = value;
    }
}

impl Following {
    /// Gives the setting its default.
    pub fn follow(self, settings: &mut Settings) {
        let by_steps = settings.schedule == Schedule::Step;
        match self {
            Self::Augment => settings.augment = settings.backbone != Backbone::MnistCnn,
            Self::BatchNorm => {
                let is_live = settings.finetune == Finetune::Scratch && settings.backbone.has_batch_norm();
                settings.batch_norm = if is_live { BatchNorm::Live } else { BatchNorm::Frozen };
            }
            Self::Gamma => settings.gamma = if by_steps { 0.1 } else { 1.0 },
            Self::Milestones => {
                let any = by_steps && settings.steps >= 2;
                settings.milestones = if any { vec![settings.steps / 2, settings.steps] } else { Vec::new() };
            }
            Self::Momentum => {
                settings.momentum = if settings.optimizer == Optimizer::Sgd { 0.9 } else { 0.0 }
            }
            Self::Pixels => settings.pixels = settings.backbone.pixels(),
            Self::Weights => {
                let name =
                    if settings.finetune == Finetune::Scratch { "" } else { settings.backbone.as_str() };
                settings.weights = name.to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::Work;
    use crate::trial::tests::example;

    fn settings() -> Settings {
        let Work::Finetune(settings) = example().work else { panic!("a command") };
        settings
    }

    #[test]
    fn every_setting_is_read_back_as_it_is_set() {
        let text = |text: &str| Scalar::Text(text.to_owned());
        let number = |number: f64| Scalar::Number(number.into());
        let mut own = settings();
        for (setting, value) in Setting::ALL.iter().zip([
            Scalar::Flag(false),
            text("vit-b-16"),
            number(7.0),
            text("linear"),
            text("adamw"),
            number(96.0),
            text("bf16"),
            text("cosine"),
            number(123_456.0),
            text("mine"),
        ]) {
            assert_ne!(setting.of(&own), value, "{setting}");
            setting.set(&value, &mut own);
            assert_eq!((setting.of(&own), Setting::on_axis(setting.as_str())), (value, Some(*setting)));
        }
        assert_eq!(Setting::on_axis("lr"), None);
    }

    #[test]
    fn defaults_follow_from_the_values_of_the_trial() {
        let mut shared = settings();
        assert!(matches!(shared.at(&Parameters::new()), Cow::Borrowed(_)));
        shared.following = Following::ALL.to_vec();
        let at = |values: &[(&str, Scalar)]| {
            let parameters = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            shared.at(&parameters.collect()).into_owned()
        };
        let text = |text: &str| Scalar::Text(text.to_owned());
        let own = at(&[
            ("backbone", text("mnist-cnn")),
            ("finetune", text("scratch")),
            ("optimizer", text("adam")),
        ]);
        assert_eq!((own.pixels, own.augment, own.weights.as_str(), own.momentum), (28, false, "", 0.0));
        let own = at(&[("backbone", text("efficientnet-lite1")), ("steps", Scalar::Number(60.0.into()))]);
        assert_eq!((own.pixels, own.augment, own.weights.as_str()), (240, true, "efficientnet-lite1"));
        assert_eq!((own.milestones, own.gamma, own.momentum), (vec![30, 60], 0.1, 0.9));
        let own = at(&[("schedule", text("cosine"))]);
        assert_eq!((own.milestones.as_slice(), own.gamma, own.following.as_slice()), (&[][..], 1.0, &[][..]));
    }
}
