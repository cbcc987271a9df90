//! The map of texts that most systems attach to an instance: our labels, and what they have no other place for.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer};

use crate::{Incarnation, Instance, Weight, Zone};

pub(super) type Texts = BTreeMap<Arc<str>, Arc<str>>;

/// What of an instance may stand in such a map, under a name of its own. A label of that name is taken for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Weight,
    Zone,
    Version,
    Incarnation,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Zone => "zone",
            Self::Version => "version",
            Self::Incarnation => "incarnation",
        }
    }

    /// Its text, when it differs from the default.
    fn get(self, instance: &Instance) -> Option<Arc<str>> {
        match self {
            Self::Weight => (instance.weight != Weight::default())
                .then(|| instance.weight.get().to_string().into()),
            Self::Zone => instance.zone.as_ref().map(|zone| zone.as_str().into()),
            Self::Version => instance.version.clone(),
            Self::Incarnation => instance.incarnation.map(|i| i.to_string().into()),
        }
    }

    /// Whether `text` is one.
    fn set(self, instance: &mut Instance, text: &Arc<str>) -> bool {
        match self {
            Self::Weight => {
                let weight = text.parse().ok().and_then(weight);
                weight.map(|weight| instance.weight = weight).is_some()
            }
            Self::Zone => {
                instance.zone = Zone::new(text).ok();
                instance.zone.is_some()
            }
            Self::Version => {
                instance.version = Some(Arc::clone(text));
                true
            }
            Self::Incarnation => {
                instance.incarnation = Incarnation::parse(text);
                instance.incarnation.is_some()
            }
        }
    }
}

/// A weight as others have it: none when it is not positive, and no more than the largest.
pub(super) fn weight(number: i64) -> Option<Weight> {
    let number = u32::try_from(number.min(i64::from(Weight::MAX))).ok()?;
    Weight::new(number).ok()
}

/// An instance's labels, and those of its `fields` that differ from their defaults.
pub(super) fn of(instance: &Instance, fields: &[Field]) -> Texts {
    let fields = fields
        .iter()
        .filter_map(|field| Some((field.name().into(), field.get(instance)?)));
    instance.labels.clone().into_iter().chain(fields).collect()
}

/// The instance with what `texts` say of it. What cannot be one of the `fields` stays a label.
pub(super) fn into(mut instance: Instance, mut texts: Texts, fields: &[Field]) -> Instance {
    for field in fields {
        if let Some(text) = texts.get(field.name())
            && field.set(&mut instance, text)
        {
            texts.remove(field.name());
        }
    }
    instance.labels = texts;
    instance
}

/// Reads a map of texts as Go does: null stands for an empty text.
pub(super) fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Texts, D::Error> {
    let read = BTreeMap::<Arc<str>, Option<Arc<str>>>::deserialize(from)?;
    let texts = read.into_iter();
    Ok(texts
        .map(|(name, text)| (name, text.unwrap_or_default()))
        .collect())
}
