//! Serde adapters: values that are text in a file, and are checked by their own constructors when they are read.

use std::{fmt::Display, str::FromStr};

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

/// The same for what may be left out: the empty text stands for nothing, so that each key can be shown and unset.
pub(super) mod optional {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde calls it with a reference")]
    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        match String::deserialize(from)?.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(D::Error::custom),
        }
    }
}

/// A list in the file; in the environment one text, with commas.
pub(super) mod dialects {
    use std::fmt;

    use registry::dialect::{Dialect, Dialects};
    use serde::{
        Deserializer, Serializer,
        de::{Error, SeqAccess, Visitor},
    };

    pub(crate) fn serialize<S: Serializer>(dialects: &Dialects, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(dialects.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Dialects, D::Error> {
        from.deserialize_any(Named)
    }

    struct Named;

    impl<'de> Visitor<'de> for Named {
        type Value = Dialects;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of dialects")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Dialects, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dialects, A::Error> {
            let mut named = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                named.push(text.parse::<Dialect>().map_err(A::Error::custom)?);
            }
            Dialects::new(named).map_err(A::Error::custom)
        }
    }
}

/// A weight is a number in the file.
pub(super) mod weight {
    use registry::Weight;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    pub(crate) fn serialize<S: Serializer>(weight: &Weight, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u32(weight.get())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Weight, D::Error> {
        Weight::new(u32::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A share is a number in the file.
pub(super) mod share {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    pub(crate) fn serialize<S: Serializer>(share: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(*share)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        let share = f64::deserialize(from)?;
        if (0.0..=1.0).contains(&share) {
            return Ok(share);
        }
        let refused = format_args!("{share} is no share of the calls; a share is from 0 to 1");
        Err(D::Error::custom(refused))
    }
}

/// A time to live, within what every backend can keep.
pub(super) mod ttl {
    use std::{ops::RangeInclusive, time::Duration};

    use serde::{Deserializer, Serializer, de::Error};

    use crate::config::duration;

    /// Below two seconds etcd's default election timeout does not let a lease live; beyond ten minutes a dead instance
    /// would be called for longer than anyone wants.
    const ALLOWED: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_mins(10);

    pub(crate) fn serialize<S: Serializer>(ttl: &Duration, to: S) -> Result<S::Ok, S::Error> {
        duration::serialize(ttl, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let ttl = duration::deserialize(from)?;
        if ALLOWED.contains(&ttl) {
            return Ok(ttl);
        }
        Err(D::Error::custom(format_args!(
            "a ttl of {} is out of range; a ttl is from {} to {}",
            humantime::format_duration(ttl),
            humantime::format_duration(*ALLOWED.start()),
            humantime::format_duration(*ALLOWED.end()),
        )))
    }
}

/// A limit of time: long enough for anything to be done in it.
pub(super) mod time_limit {
    use std::{ops::RangeInclusive, time::Duration};

    use serde::{Deserializer, Serializer, de::Error};

    use crate::config::duration;

    const ALLOWED: RangeInclusive<Duration> =
        Duration::from_millis(1)..=Duration::from_hours(24 * 365);

    pub(crate) fn serialize<S: Serializer>(limit: &Duration, to: S) -> Result<S::Ok, S::Error> {
        duration::serialize(limit, to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        checked(duration::deserialize(from)?)
    }

    fn checked<E: Error>(limit: Duration) -> Result<Duration, E> {
        if ALLOWED.contains(&limit) {
            return Ok(limit);
        }
        Err(E::custom(format_args!(
            "{} is no limit; one is from 1ms to a year",
            humantime::format_duration(limit)
        )))
    }

    /// The same for one that there need not be: the empty text stands for none.
    pub(crate) mod optional {
        use std::time::Duration;

        use serde::{
            Deserialize, Deserializer, Serializer,
            de::{IntoDeserializer, value::StringDeserializer},
        };

        #[expect(clippy::ref_option, reason = "serde calls it with a reference")]
        pub(crate) fn serialize<S: Serializer>(
            limit: &Option<Duration>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match limit {
                Some(limit) => super::serialize(limit, to),
                None => to.serialize_str(""),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Duration>, D::Error> {
            let text = String::deserialize(from)?;
            if text.is_empty() {
                return Ok(None);
            }
            let text: StringDeserializer<D::Error> = text.into_deserializer();
            super::deserialize(text).map(Some)
        }
    }
}
